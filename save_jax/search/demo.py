"""A small library to try search with: videos made here, some alone and some joined to longer files, with subtitles.

They are of the demo corpus's generator, with another seed than the clips that the packaged model was trained on.
"""

import contextlib
import csv
import io
import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from fractions import Fraction
from importlib import resources
from pathlib import Path

import av
import numpy as np
import pysubs2

from save_jax.search.library import Library

MODEL = "demo"  # by this name: the weights in this package
CLIPS, SEED = 40, 2026
SIZE, RATE, SOUND = (320, 240), 12, 22050  # of joined files: pixels, pictures and samples a second
JOINED = 5  # clips of one
QUESTIONS, OFFERED = "questions.txt", 5
FOLDERS = ("Holiday/été à Paris", "Holiday/2025 beach", "Family/birthday", "Work")


def model_folder() -> str:
    """The weights, small enough to come with the package: SAVE, trained on the demo corpus."""
    return str(resources.files("save_jax.search") / "demo_model")


def make_videos(folder: Path, jobs: int) -> int:
    """Writes the videos below a new folder; how many. One that is whole is left as it is."""
    from data_prep.demo.make import make_corpus  # voices and drawings, which nothing else of this room needs

    if folder.exists():
        return sum(1 for _ in folder.rglob("*.mp4"))
    partial = folder.with_name(folder.name + ".part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as made:
        corpus = Path(made)
        with contextlib.redirect_stdout(io.StringIO()):  # a folder that nobody will see
            make_corpus(corpus, CLIPS, SEED, jobs)
        clips = [row["video_id"] for row in _rows(corpus / "Annotations" / "clip_tags.csv")]
        said = {row["video_id"]: row["sentence"] for row in _rows(corpus / "Annotations" / "spoken.csv")}
        arrange(corpus, clips, said, partial)
        test = _rows(corpus / "Annotations" / "MSRVTT_JSFUSION_test.csv")
        groups = {row["sentence"]: row["group"] for row in _rows(corpus / "Annotations" / "query_groups.csv")}
        asked = _mixed([(groups[row["sentence"]], row["sentence"]) for row in test])
    (partial / QUESTIONS).write_text("\n".join(asked) + "\n", encoding="utf-8")
    whole = time.time() - 60  # not taken for files that are still being written
    for path in partial.rglob("*.*"):
        os.utime(path, (whole, whole))
    os.replace(partial, folder)
    return sum(1 for _ in folder.rglob("*.mp4"))


def questions(folder: Path) -> list[str]:
    """Sentences to ask of the videos, about pictures, sounds and speech by turns."""
    return (folder / QUESTIONS).read_text(encoding="utf-8").splitlines()


def offer(library: Library, sentences: Sequence[str]) -> list[str]:
    """Of the sentences, some that this index answers, of several kinds; kept in it for its page."""
    answered = [sentence for sentence in sentences if not library.search(sentence, 1).nothing_relevant]
    with library.store.writing():
        library.store.about.examples = answered[:OFFERED]
        library.store.save()
    return answered[:OFFERED]


def arrange(
    corpus: Path,
    clips: Sequence[str],
    said: Mapping[str, str],
    folder: Path,
    joined: int = JOINED,
    folders: Sequence[str] = FOLDERS,
) -> dict[str, tuple[str, float, float]]:
    """A library as people have them: a third of the clips alone in nested folders, the rest joined to long files.

    What is said in them (clip → text) lies beside them as subtitles. Returns clip → (path below the folder, start, end
    in seconds).
    """
    found: dict[str, tuple[str, float, float]] = {}

    def put(names: Sequence[str], path: Path, times: Sequence[tuple[float, float]]) -> None:
        lines = [(*span, said[name]) for name, span in zip(names, times, strict=True) if name in said]
        write_subtitles(lines, path.with_suffix(".srt"))
        for name, span in zip(names, times, strict=True):
            found[name] = (path.relative_to(folder).as_posix(), *span)

    alone = len(clips) // 3
    for number, name in enumerate(clips[:alone]):
        path = folder / folders[number % len(folders)] / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        source = corpus / "VideoData" / path.name
        shutil.copy(source, path)
        with av.open(str(source)) as container:
            put([name], path, [(0.0, float(container.duration or 0) / av.time_base)])
    (folder / "long").mkdir(parents=True)
    for first in range(alone, len(clips), joined):
        names = clips[first : first + joined]
        path = folder / "long" / f"joined {first:03d}.mp4"
        put(names, path, join([corpus / "VideoData" / f"{name}.mp4" for name in names], path))
    return found


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _mixed(sentences: Sequence[tuple[str, str]]) -> list[str]:
    """(group, sentence) → sentences, one of each group by turns."""
    by_group: dict[str, list[str]] = {}
    for group, sentence in sentences:
        by_group.setdefault(group, []).append(sentence)
    turns = itertools.zip_longest(*(by_group[group] for group in sorted(by_group)))
    return [sentence for turn in turns for sentence in turn if sentence]


def write_subtitles(lines: Sequence[tuple[float, float, str]], path: Path) -> None:
    """An .srt of (start, end, text), or nothing where nothing is said."""
    times = pysubs2.time.make_time
    events = [pysubs2.SSAEvent(times(s=start), times(s=end), said) for start, end, said in lines]
    if events:
        written = pysubs2.SSAFile()
        written.events = events
        written.save(str(path))


def join(clips: Sequence[Path], path: Path) -> list[tuple[float, float]]:
    """Writes clips one after the other as one file; (start, end) of each."""
    times, at, sounds = [], 0, []
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=RATE, options={"preset": "superfast", "crf": "20"})
        video.width, video.height, video.pix_fmt = *SIZE, "yuv420p"
        audio = container.add_stream("aac", rate=SOUND, layout="mono")
        for clip in clips:
            frames, sound = _decoded(clip)
            for frame in frames:
                frame.pts, frame.time_base = at, Fraction(1, RATE)
                container.mux(video.encode(frame))
                at += 1
            times.append(((at - len(frames)) / RATE, at / RATE))
            sounds.append(sound)
        container.mux(video.encode())
        samples = np.concatenate(sounds).astype(np.float32)
        for start in range(0, len(samples), 1024):
            part = np.ascontiguousarray(samples[None, start : start + 1024])
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = SOUND, start, Fraction(1, SOUND)
            container.mux(audio.encode(frame))
        container.mux(audio.encode())
    return times


def _decoded(path: Path) -> tuple[list[av.VideoFrame], np.ndarray]:
    """Frames at RATE in a frame of SIZE, and as long a sound, mono at SOUND."""
    frames, samples = [], []
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("fltp", "mono", SOUND)
        for frame in container.decode(*container.streams.video[:1], *container.streams.audio[:1]):
            if isinstance(frame, av.VideoFrame):
                if float(frame.time or 0) >= len(frames) / RATE - 1e-6:
                    frames.append(_fitted(frame))
            elif isinstance(frame, av.AudioFrame):
                samples += [part.to_ndarray()[0] for part in resampler.resample(frame)]
    sound = np.concatenate(samples) if samples else np.zeros(0, np.float32)
    length = len(frames) * SOUND // RATE
    return frames, np.pad(sound[:length], (0, max(0, length - len(sound))))


def _fitted(frame: av.VideoFrame) -> av.VideoFrame:
    """The picture in the middle of a black one of SIZE."""
    scale = min(SIZE[0] / frame.width, SIZE[1] / frame.height)
    small = frame.reformat(int(frame.width * scale) // 2 * 2, int(frame.height * scale) // 2 * 2, "rgb24").to_ndarray()
    canvas = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    top, left = (SIZE[1] - small.shape[0]) // 2, (SIZE[0] - small.shape[1]) // 2
    canvas[top : top + small.shape[0], left : left + small.shape[1]] = small
    return av.VideoFrame.from_ndarray(canvas, format="rgb24")
