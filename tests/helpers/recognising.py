"""Recognition of made sounds by an engine that counts: one that says how long each piece is."""

import json
import os
import signal
from pathlib import Path

from data_prep import runners
from data_prep.commands import transcribe
from data_prep.corpora import Sample
from data_prep.speech import filters, whisper
from data_prep.speech.cache import Cache
from data_prep.speech.filters import Segment
from data_prep.speech.recognise import Recognise
from helpers.media import write_media
from helpers.voices import RATE, noise

LIMITS = filters.Thresholds()


def segment(text: str, start: float = 0, end: float = 2, no_speech: float = 0.1, logprob: float = -0.3) -> Segment:
    return Segment(start, end, text, no_speech, logprob, filters.compression_ratio(text))


class Counting:
    """Says of each piece how many tenths of a second it lasts; `fails_at`: the call at which the process is killed."""

    def __init__(self, fails_at: int | None = None):
        self.pieces, self.calls, self.fails_at, self.batch = 0, 0, fails_at, 16

    def transcribe(self, waveforms, languages):
        self.calls += 1
        if self.calls == self.fails_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.pieces += len(waveforms)
        return [
            whisper.Recognised(language or "en", [segment(f" Number {len(sound) // 1600} is said.", 0, 0.5)])
            for sound, language in zip(waveforms, languages, strict=True)
        ]


class Deadly(Recognise):
    """A recogniser that ends the process at a sound of 1.2 s, as a crash in native code does."""

    def _engine(self):
        class Engine(Counting):
            def transcribe(self, waveforms, languages):
                if any(len(sound) == 1.2 * RATE for sound in waveforms):
                    os.kill(os.getpid(), signal.SIGKILL)
                return super().transcribe(waveforms, languages)

        return Engine()


def sample(path: Path, clip_id: str = "", audio: str | None = None) -> Sample:
    return Sample(clip_id or path.stem, "train", str(path), ["a"], [""], "", [], audio, None, None)


def task(folder: Path, counting: Counting | None = None, kind: type[Recognise] = Recognise, **changes) -> Recognise:
    settings = {"engine": "transformers", "model": "a/whisper", "model_identity": "one", "detector": "none"}
    made = kind(cache=Cache(str(folder / "cache")), batch_size=2, **settings | changes)
    made._loaded["engine"] = counting or Counting()
    return made


def write_sounds(folder: Path, count: int = 5) -> list[Sample]:
    paths = [folder / f"clip{k}.wav" for k in range(count)]
    for number, path in enumerate(paths):
        write_media(path, sound=noise(1 + 0.1 * number))
    return [sample(path) for path in paths]


def entries(folder: Path) -> int:
    """Results of whole files in the cache."""
    found = (json.loads(path.read_text()) for path in (folder / "cache").glob("*/*.json"))
    return sum("pieces" not in entry["of"] for entry in found)


def run(folder: Path, samples: list[Sample], counting: Counting | None = None, **changes) -> tuple[dict, list[dict]]:
    out = folder / "transcripts.json"
    result = transcribe.transcribe(samples, str(out), task(folder, counting, **changes), runners.Here(), LIMITS)
    return result, json.loads(out.read_text())
