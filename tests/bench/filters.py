"""The limits of `data_prep.speech.filters`, swept over recorded speech, music and silence: text kept of clips in which
nobody speaks, against clips of speech that come out empty.

    python tests/bench/filters.py MODEL [MODEL …] [--cache FOLDER] [--demo FOLDER] [--every 2] [--png FILE]

Each model (a folder for faster-whisper) hears every clip once, behind voice activity detection and without it; the
cache keeps what it said, and the sweep takes seconds. Of clips without speech, lines that the filters know stand for
lines that they do not know: the limits alone are to stop them. Sounds are those of tests/helpers/real_media.py. With
--demo the clips of a demo corpus are added: those in which something is spoken, and the others. The default is marked
with *.
"""

import argparse
import collections
import csv
import dataclasses
import os
import pathlib
import sys
import tempfile
import wave
from collections.abc import Iterator, Sequence

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from helpers import real_media as packages

from data_prep.corpora import CORPORA
from data_prep.speech import filters, vad
from data_prep.speech.cache import Cache, model_identity
from data_prep.speech.recognise import Recognise

# Limit → the values that are tried; beside them the default.
SWEEPS = {
    "no_speech": (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
    "logprob": (-0.2, -0.4, -0.5, -0.6, -0.7, -0.8, -0.9, -1.0, -1.2, -1.5),
    "hopeless_logprob": (-0.8, -1.0, -1.2, -1.5, -2.0),
    "compression": (1.6, 2.0, 2.4, 3.0),
    "voiced": (0.0, 0.1, 0.3, 0.5, 0.8),
}
MUSIC_SECONDS = 10  # a clip's
LEAST_BYTES = 16_000  # of a prompt: a second at 8 kHz and 16 bits


@dataclasses.dataclass(frozen=True)
class Clip:
    path: str
    speech: bool


def recorded(every: int, folder: pathlib.Path) -> list[Clip]:
    """Read sentences, silence, and every `every`-th prompt of a second or more and clip of music, cut in `folder`."""
    prompts = packages.prompts("en")
    long = [path for path in sorted(prompts.glob("*.wav")) if path.stat().st_size > LEAST_BYTES]
    spoken = [path for path in long if "beep" not in path.name and "tone" not in path.name]  # no words in those
    speech = [*packages.read_sentences(), *spoken[::every]]
    cut = [part for path in packages.music() for part in _cut(path, folder)]
    nothing = [*cut[::every], *sorted((prompts / "silence").glob("*.wav"))]
    return [Clip(str(path), True) for path in speech] + [Clip(str(path), False) for path in nothing]


def _cut(path: pathlib.Path, folder: pathlib.Path) -> Iterator[pathlib.Path]:
    with wave.open(str(path)) as whole:
        length = MUSIC_SECONDS * whole.getframerate()
        for number in range(whole.getnframes() // length):
            part = folder / f"{path.stem}-{number}.wav"
            with wave.open(str(part), "wb") as file:
                file.setparams(whole.getparams())
                file.writeframes(whole.readframes(length))
            yield part


def of_demo(root: str, every: int) -> Iterator[Clip]:
    """By what was spoken: the generator's transcripts hold invented lines, too."""
    with (pathlib.Path(root) / "Annotations" / "spoken.csv").open(newline="", encoding="utf-8") as file:
        spoken = {row["video_id"] for row in csv.DictReader(file)}
    for samples in CORPORA["demo"].read(root).values():
        for sample in samples[::every]:
            yield Clip(str(sample.audio or sample.video), sample.id in spoken)


def hear(model: str, detector: str, clips: Sequence[Clip], cache: Cache) -> list[dict]:
    task = Recognise("faster-whisper", model, model_identity(model), cache, language="en", detector=detector)
    results = task([clip.path for clip in clips])
    assert isinstance(results, list), results
    assert not (problems := [result["problem"] for result in results if "problem" in result]), problems
    return results


@dataclasses.dataclass(frozen=True)
class Count:
    """Clips of speech that come out empty, clips without speech that keep text, and segments that those keep."""

    lost: int
    false: int
    segments: int


def count(clips: Sequence[Clip], results: Sequence[dict], limits: filters.Thresholds) -> Count:
    lost = false = segments = 0
    for clip, result in zip(clips, results, strict=True):
        said = [filters.Segment(**segment) for segment in result["segments"]]
        if not clip.speech:
            said = [dataclasses.replace(one, text=_unknown(one.text, number)) for number, one in enumerate(said)]
        kept, _ = filters.keep(said, result["voices"], None, limits)
        lost += clip.speech and not kept
        false += not clip.speech and bool(kept)
        segments += 0 if clip.speech else len(kept)
    return Count(lost, false, segments)


def _unknown(text: str, number: int) -> str:
    return f"Line {number} of those that are not known." if filters.is_known_line(text) else text


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("models", nargs="+", metavar="MODEL", help="folder for faster-whisper")
    parser.add_argument("--cache", help="folder of what was heard (default: none is kept)")
    parser.add_argument("--demo", help="folder of a demo corpus")
    parser.add_argument(
        "--every",
        type=int,
        default=2,
        help="of so many prompts, clips of music and clips of the demo, one is heard (default: %(default)s)",
    )
    parser.add_argument("--png", help="file of the figure")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cache, clips = Cache(args.cache or folder), recorded(args.every, pathlib.Path(folder))
        clips += of_demo(args.demo, args.every) if args.demo else ()
        columns = {
            (os.path.basename(os.path.normpath(model)), detector): hear(model, detector, clips, cache)
            for model in args.models
            for detector in vad.METHODS
        }
    speech = sum(clip.speech for clip in clips)
    print(f"{speech} clips of speech, {len(clips) - speech} without\n")
    print("lost clips of speech / clips without speech that keep text (their segments)\n")
    print("| limit | " + " | ".join(f"{model}, {detector}" for model, detector in columns) + " |")
    print("|---" * (1 + len(columns)) + "|")
    curves = collections.defaultdict(list)
    default = filters.Thresholds()
    nothing = filters.Thresholds(1.0, -100.0, 100.0, -100.0, 0.0)
    print(_line("none of these", [count(clips, results, nothing) for results in columns.values()]))
    for name, values in SWEEPS.items():
        chosen = getattr(default, name)
        for value in sorted({*values, chosen}):
            limits = dataclasses.replace(default, **{name: value})
            counts = [count(clips, results, limits) for results in columns.values()]
            print(_line(f"{name} {value:g}{' *' * (value == chosen)}", counts))
            for column, one in zip(columns, counts, strict=True):
                curves[name, column].append((value, one))
    if args.png:
        _plot(curves, list(columns), len(clips), speech, args.png)


def _line(name: str, counts: Sequence[Count]) -> str:
    return f"| {name} | " + " | ".join(f"{one.lost} / {one.false} ({one.segments})" for one in counts) + " |"


def _plot(curves: dict, columns: Sequence, clips: int, speech: int, file: str) -> None:
    """A column for each limit that moves anything: above, lost clips of speech; below, text where nobody speaks."""
    names = [name for name in SWEEPS if any(len({one for _, one in curves[name, column]}) > 1 for column in columns)]
    figure, panels = plt.subplots(
        2, len(names), figsize=(3.4 * len(names), 5), layout="constrained", sharex="col", sharey="row", squeeze=False
    )
    for name, (lost, false) in zip(names, panels.T, strict=True):
        for column in columns:
            values, counts = zip(*curves[name, column], strict=True)
            style = {"linestyle": "-" if column[1] == "silero" else ":", "marker": ".", "label": ", ".join(column)}
            lost.plot(values, [100 * one.lost / speech for one in counts], **style)
            false.plot(values, [100 * one.false / (clips - speech) for one in counts], **style)
        lost.set_title(f"--limit-{name.replace('_', '-')}")
        false.set_xlabel("limit (dashed: the default)")
        for panel in (lost, false):
            panel.axvline(getattr(filters.Thresholds(), name), color="0.6", linestyle="--")
    panels[0, 0].set_ylabel("clips of speech\nthat come out empty, %")
    panels[1, 0].set_ylabel("clips without speech\nthat keep text, %")
    panels[0, 0].legend(fontsize="small")
    figure.savefig(file, dpi=120)


if __name__ == "__main__":
    main()
