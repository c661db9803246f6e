"""Both engines on the same weights, Whisper tiny.en, over recorded speech: they hear and measure the same.

One set of weights is converted from CTranslate2 to transformers. Greedy decoding only: at a temperature both draw
tokens, each its own. Needs torch.
"""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from helpers import media, voices, whisper_conversion
from helpers import real_media as packages
from helpers.places import REPOSITORY

from data_prep.speech import whisper

torch = pytest.importorskip("torch", reason="needs the torch extra")
transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def weights():
    """Folder for faster-whisper."""
    return packages.whisper_tiny_en()


@pytest.fixture(scope="module")
def converted(weights, tmp_path_factory) -> str:
    """Folder for transformers."""
    return whisper_conversion.convert(weights, tmp_path_factory.mktemp("converted"))


@pytest.fixture(scope="module")
def sounds() -> list[np.ndarray]:
    """The five read sentences, and every sixteenth prompt of two seconds (at 8 kHz and 16 bits) or more."""
    long = [path for path in sorted(packages.prompts("en").glob("*.wav")) if path.stat().st_size > 2 * 16_000]
    spoken = [path for path in long if "beep" not in path.name and "tone" not in path.name]
    return [packages.heard(path) for path in (*packages.read_sentences(), *spoken[::16])]


@pytest.fixture(scope="module")
def heard(weights, converted, sounds) -> dict[str, list[whisper.Recognised]]:
    """Engine → what it hears."""
    engines = {
        "transformers": whisper.Transformers(converted, 8),
        "float32": whisper.FasterWhisper(str(weights), "float32"),
        "int8": whisper.FasterWhisper(str(weights), "int8"),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(whisper, "_TEMPERATURES", (0.0,))
        return {name: engine.transcribe(sounds, [""] * len(sounds)) for name, engine in engines.items()}


def test_every_weight_has_its_place(converted):
    _, loading = transformers.WhisperForConditionalGeneration.from_pretrained(converted, output_loading_info=True)
    assert not any(loading[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))


def test_another_model_is_refused(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"\6\0\0\0" + b"\5\0Bert\0")
    with pytest.raises(ValueError, match="holds a Bert, not a WhisperSpec"):
        whisper_conversion.read_variables(tmp_path / "model.bin")


def test_both_engines_hear_the_same(heard, sounds):
    """In float32: every word and time stamp. Measured: no-speech within 9e-7, log-probabilities within 2e-5."""
    assert len(sounds) >= 12
    for one, other in zip(heard["transformers"], heard["float32"], strict=True):
        assert [segment.text for segment in one.segments] == [segment.text for segment in other.segments]
        for segment, same in zip(one.segments, other.segments, strict=True):
            assert (segment.start, segment.end) == pytest.approx((same.start, same.end), abs=0.001)
            assert segment.no_speech == pytest.approx(same.no_speech, abs=1e-5)
            assert segment.logprob == pytest.approx(same.logprob, abs=2e-4)


def test_what_int8_moves(heard):
    """As faster-whisper computes on a CPU: a capital, and where segments part; of measures, less than the limits mind.

    Measured: no-speech within 0.01, log-probabilities within 0.04.
    """
    for exact, rounded in zip(heard["float32"], heard["int8"], strict=True):
        said, other = ("".join(segment.text for segment in one.segments).lower() for one in (exact, rounded))
        assert said == other
        assert exact.segments[0].no_speech == pytest.approx(rounded.segments[0].no_speech, abs=0.03)
        assert exact.segments[0].logprob == pytest.approx(rounded.segments[0].logprob, abs=0.1)


@pytest.mark.parametrize("engine", whisper.ENGINES)
def test_the_command_shows_nothing_but_its_own(engine, weights, converted, tmp_path):
    """Warnings of libraries are not what its user can act on."""
    samples = voices.spoken("The train to London leaves at nine.")
    media.write_media(tmp_path / "a.mp4", [media.numbered(k) for k in range(12)], sound=samples)
    model = converted if engine == "transformers" else str(weights)
    command = [sys.executable, "-m", "data_prep.transcribe", "--corpus", "folder", "--root", str(tmp_path)]
    unset = {name: value for name, value in os.environ.items() if name != "TRANSFORMERS_VERBOSITY"}  # the tests' own
    done = subprocess.run(
        [*command, "--engine", engine, "--model", model], capture_output=True, text=True, env=unset, cwd=REPOSITORY
    )
    assert done.returncode == 0 and done.stdout.startswith("1 clips"), done
    assert [line for line in re.split(r"[\r\n]+", done.stderr) if line and not re.search(r"clip/s|s/clip", line)] == []
