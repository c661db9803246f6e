"""Inspecting shards: the table shows every record, and the files hold what the record holds."""

import json
import wave

import numpy as np
import pytest
from helpers import media
from helpers.corpus import SETTINGS, make_clip
from PIL import Image

from data_prep.commands import inspect
from data_prep.media import audio, griffin_lim
from save_jax.data import records


@pytest.fixture
def folder(tmp_path):
    """Two shards: three clips with one that failed and one with a note, and one of raw pictures."""
    sound = audio.fbank(media.tone(16000, 3))
    clips = [
        make_clip(0, "test", transcript="Well, this is what was said and more of it."),
        make_clip(1, "test", id="a/../b c", fbank=sound, notes=["teacher: gone"], speech={"source": "whisper"}),
        make_clip(2, "test", frames=[], frame_times=np.zeros(0, np.float32), fbank=None, failed="too dark"),
    ]
    records.write_shard(str(tmp_path / records.shard_name("test", 0, 1)), iter(clips), SETTINGS)
    raw = make_clip(3, "train", frames=[media.numbered(200, 32).tobytes()], frame_times=np.zeros(1, np.float32))
    settings = SETTINGS | {"frames": "raw"}
    records.write_shard(str(tmp_path / records.shard_name("train", 0, 1)), iter([raw]), settings)
    return tmp_path


def test_table(folder, capsys):
    assert inspect.main([str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "clips-test.tfrecord-00000-of-00001: 3 records" in lines[0] and lines[1].startswith("id ")
    assert lines[2].split()[:2] == ["test0", str(len(make_clip(0, "test").frames))]
    assert lines[2].endswith("'Well, this is what was said and more of '")
    assert lines[3].startswith("a/../b c") and "yes" in lines[3] and lines[3].endswith("NOTE teacher: gone")
    assert lines[4].split()[:5] == ["test2", "0", "-", "-", "va"] and lines[4].endswith("FAILED too dark")
    assert "1 records" in lines[5] and lines[7].startswith("train3")


def test_record_as_files(folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert inspect.main([str(folder), "a/../b c", "--out", str(out)]) == 0
    target = out / "a%2F..%2Fb c"  # one folder below --out, whatever the id holds
    clip = make_clip(1, "test")
    names = {path.name for path in target.iterdir()}
    pictures = sorted(name for name in names if name.endswith(".jpg"))
    assert [(target / name).read_bytes() for name in pictures] == clip.frames
    assert names - set(pictures) == {"record.json", "fbank.npy", "fbank.png", "sound-approximate.wav"}
    np.testing.assert_array_equal(np.load(target / "fbank.npy"), audio.fbank(media.tone(16000, 3)))
    assert Image.open(target / "fbank.png").size[0] > 500
    known = json.loads((target / "record.json").read_text())
    assert known["captions"][0] == {"text": clip.captions[0], "group": "sound"} and known["notes"] == ["teacher: gone"]
    assert known["speech"] == {"source": "whisper"} and known["sound"] is True
    assert str(target / "fbank.npy") in capsys.readouterr().out


def test_a_stored_spectrogram_is_drawn(tmp_path, capsys):
    stored = np.linspace(-1, 1, 256 * 256).reshape(records.SPECTROGRAM_SHAPE).astype(np.float16)
    clips = [make_clip(0, "test", spectrogram=stored), make_clip(1, "test")]
    settings = SETTINGS | {"spectrogram": True}
    records.write_shard(str(tmp_path / records.shard_name("test", 0, 1)), iter(clips), settings)
    for number, there in ((0, True), (1, False)):
        assert inspect.main([str(tmp_path), f"test{number}", "--out", str(tmp_path / "out")]) == 0
        folder = tmp_path / "out" / f"test{number}"
        assert json.loads((folder / "record.json").read_text())["spectrogram"] is there
        assert (folder / "spectrogram.png").exists() is there
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "test0" / "spectrogram.npy"), stored)


def test_raw_pictures_and_the_sound_of_the_media_file(folder, tmp_path):
    sound = media.write_media(tmp_path / "sound.wav", sound=media.tone(16000, 2))
    shard = folder / records.shard_name("train", 0, 1)
    assert inspect.main([str(shard), "train3", "--out", str(tmp_path), "--media", sound]) == 0
    picture = np.asarray(Image.open(tmp_path / "train3" / "frame-00-0.00s.png"))
    np.testing.assert_array_equal(picture, media.numbered(200, 32))
    with wave.open(str(tmp_path / "train3" / "sound.wav")) as file:
        assert (file.getframerate(), file.getnchannels(), file.getnframes()) == (16000, 1, 32000)
        samples = np.frombuffer(file.readframes(32000), np.int16)
    np.testing.assert_allclose(samples / 32767, media.tone(16000, 2), atol=1e-3)


@pytest.mark.parametrize("hertz", [440, 2500])
@pytest.mark.parametrize("seconds", [3, 40])
def test_approximate_sound_has_the_pitch_and_the_pauses(hertz, seconds, monkeypatch):
    """A tone in the first half only; over 25.6 s the windows of the log-mel do not overlap any more."""
    tone = media.tone(16000, seconds, hertz)
    tone[len(tone) // 2 :] = 0
    monkeypatch.setattr(griffin_lim, "ROUNDS", 4)
    samples = griffin_lim.approximate(audio.fbank(tone), seconds)
    assert samples.dtype == np.float32 and abs(len(samples) / 16000 - seconds) < 0.1
    spectrum = np.abs(np.fft.rfft(samples))
    loudest = spectrum.argmax() * 16000 / len(samples)
    assert abs(loudest - hertz) < 0.05 * hertz
    half = len(samples) // 2
    assert np.square(samples[: half - 1000]).mean() > 100 * np.square(samples[half + 1000 :]).mean()


def test_approximate_sound_ends_as_quietly_as_it_was(monkeypatch):
    """The last rows of this log-mel lie beyond the sound's end and hold 0, which is loud."""
    monkeypatch.setattr(griffin_lim, "ROUNDS", 4)
    samples = griffin_lim.approximate(audio.fbank(0.001 * media.tone(16000, 2.048)), 2.048)
    assert np.abs(samples[-800:]).max() < 2 * np.abs(samples[8000:16000]).max()


def test_wrong_use_is_told(folder, tmp_path, capsys):
    for arguments, message in (
        ([str(folder), "nobody"], "no record 'nobody' in 2 shards (the first begins with test0, a/../b c"),
        ([str(tmp_path / "none")], "none: no such file or folder"),
        ([str(folder), "test0", "--out", str(tmp_path), "--media", str(tmp_path / "no.mp4")], "no.mp4: no such file"),
    ):
        assert inspect.main(arguments) == 1
        assert message in capsys.readouterr().err
    empty = tmp_path / "empty"
    empty.mkdir()
    assert inspect.main([str(empty)]) == 1 and "holds no finished shard" in capsys.readouterr().err
    shard = folder / records.shard_name("train", 0, 1)
    damaged = bytearray(shard.read_bytes())
    damaged[200] ^= 1
    shard.write_bytes(damaged)
    assert inspect.main([str(shard)]) == 1 and "fails its checksum" in capsys.readouterr().err
