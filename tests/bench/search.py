"""Search of one's own videos, measured on the demo: quality, moments, the cut-off, evidence, and what an update costs.

    python tests/bench/search.py --demo data/demo --model runs/demo --work FOLDER [--parts quality,cutoff,updates]

The test clips become a library as people have them: a third in nested folders with odd names, the rest joined to long
files; what is said in them lies beside them as subtitles.
"""

import argparse
import csv
import json
import os
import shutil
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from save_jax.search import cutoff, indexing, judgements, words
from save_jax.search.door import open_library
from save_jax.search.embedder import Embedder
from save_jax.search.library import Library
from save_jax.search.models import open_embedder, sentences_of
from save_jax.search.store import Store
from save_jax.search.transcripts import Transcriber

SIZE, RATE, SOUND = (320, 240), 12, 22050
JOINED = 10  # clips of a long file
NESTED = ("été à Paris", "2024/会議", "b 'quoted'", "a/b/c")


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# ---------------------------------------------------------------- the library


def decoded(path: Path) -> tuple[list[av.VideoFrame], np.ndarray]:
    """Frames at RATE in a frame of SIZE, and mono samples at SOUND."""
    frames, samples = [], []
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("fltp", "mono", SOUND)
        for frame in container.decode(*container.streams.video[:1], *container.streams.audio[:1]):
            if isinstance(frame, av.VideoFrame):
                if float(frame.time or 0) >= len(frames) / RATE - 1e-6:
                    frames.append(fitted(frame))
            else:
                samples += [part.to_ndarray()[0] for part in resampler.resample(frame)]
    sound = np.concatenate(samples) if samples else np.zeros(0, np.float32)
    length = len(frames) * SOUND // RATE
    return frames, np.pad(sound[:length], (0, max(0, length - len(sound))))


def fitted(frame: av.VideoFrame) -> av.VideoFrame:
    """The picture in the middle of a black one of SIZE."""
    scale = min(SIZE[0] / frame.width, SIZE[1] / frame.height)
    small = frame.reformat(int(frame.width * scale) // 2 * 2, int(frame.height * scale) // 2 * 2, "rgb24").to_ndarray()
    canvas = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    top, left = (SIZE[1] - small.shape[0]) // 2, (SIZE[0] - small.shape[1]) // 2
    canvas[top : top + small.shape[0], left : left + small.shape[1]] = small
    return av.VideoFrame.from_ndarray(canvas, format="rgb24")


def join(clips: list[Path], path: Path) -> list[tuple[float, float]]:
    """Writes clips one after the other; (start, end) of each."""
    times, at, sounds = [], 0, []
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=RATE, options={"preset": "superfast", "crf": "20"})
        video.width, video.height, video.pix_fmt = *SIZE, "yuv420p"
        audio = container.add_stream("aac", rate=SOUND, layout="mono")
        for clip in clips:
            frames, sound = decoded(clip)
            for frame in frames:
                frame.pts, frame.time_base = at, Fraction(1, RATE)
                container.mux(video.encode(frame))
                at += 1
            times.append(((at - len(frames)) / RATE, at / RATE))
            sounds.append(sound)
        container.mux(video.encode())
        samples = np.concatenate(sounds).astype(np.float32)
        for start in range(0, len(samples), 1024):
            frame = av.AudioFrame.from_ndarray(samples[None, start : start + 1024], format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = SOUND, start, Fraction(1, SOUND)
            container.mux(audio.encode(frame))
        container.mux(audio.encode())
    return times


def subtitles(lines: list[tuple[float, float, str]], path: Path) -> None:
    def code(seconds: float) -> str:
        rest, thousandths = divmod(round(1000 * seconds), 1000)
        return f"{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d},{thousandths:03d}"

    text = [f"{k}\n{code(start)} --> {code(end)}\n{said}\n" for k, (start, end, said) in enumerate(lines, 1)]
    if text:
        path.write_text("\n".join(text), encoding="utf-8")


def make_library(demo: Path, out: Path) -> None:
    """Folder of videos with subtitles, and queries.csv beside it: query, file, start, end, group, thing."""
    if (out / "queries.csv").exists():
        return
    shutil.rmtree(out, ignore_errors=True)
    said = {
        row["key"].removesuffix(".wav"): row["text"]
        for row in json.loads((demo / "msrvtt10k_asr_text.json").read_text())
    }
    groups = {
        (row["video_id"], row["sentence"]): row["group"] for row in rows_of(demo / "Annotations" / "query_groups.csv")
    }
    test = rows_of(demo / "Annotations" / "MSRVTT_JSFUSION_test.csv")
    queries = []

    def put(clips: list[dict], path: Path, times: list[tuple[float, float]]) -> None:
        lines = [
            (*span, said[row["video_id"]]) for row, span in zip(clips, times, strict=True) if row["video_id"] in said
        ]
        subtitles(lines, path.with_suffix(".srt"))
        for row, (start, end) in zip(clips, times, strict=True):
            name = f"videos/{path.relative_to(out / 'videos').as_posix()}"
            queries.append((row["sentence"], name, start, end, groups[row["video_id"], row["sentence"]]))

    alone = len(test) // 3
    for number, row in enumerate(test[:alone]):
        folder = out / "videos" / NESTED[number % len(NESTED)]
        folder.mkdir(parents=True, exist_ok=True)
        source = demo / "VideoData" / f"{row['video_id']}.mp4"
        shutil.copy(source, folder / source.name)
        with av.open(str(source)) as container:
            put([row], folder / source.name, [(0.0, float(container.duration or 0) / av.time_base)])
    (out / "videos" / "long").mkdir(parents=True)
    for first in range(alone, len(test), JOINED):
        clips = test[first : first + JOINED]
        path = out / "videos" / "long" / f"joined {first:03d}.mp4"
        put(clips, path, join([demo / "VideoData" / f"{row['video_id']}.mp4" for row in clips], path))
    with (out / "queries.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("query", "file", "start", "end", "group"), *queries])


def index(folder: Path, to: Path, embedder: Embedder, sentences: list[str]) -> tuple[Store, indexing.Summary]:
    """The index of a folder, made or brought up to date as the command does."""
    store = Store.open(str(to)) if (to / "library.json").exists() else Store.create(str(to), embedder, embedder.cut)
    store.about.roots = indexing.name_roots([str(folder)], store.about.roots)
    summary = indexing.update(store, embedder, Transcriber("", ""), os.cpu_count() or 1, progress=False)
    words.index(store)
    store.about.cutoff = cutoff.calibrate(Library(store, embedder), sentences)
    store.save()
    return store, summary


# ---------------------------------------------------------------- parts


def quality(work: Path, embedder: Embedder, sentences: list[str]) -> None:
    """Through the whole product, by what ranks; and beside the model's own scores of the same windows."""
    shutil.rmtree(work / "library", ignore_errors=True)
    _, summary = index(work / "videos", work / "library", embedder, sentences)
    speed = summary.duration / summary.seconds
    stages = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in summary.stages.items())
    print(f"{summary.embedded} files, {summary.duration / 60:.1f} minutes: {speed:.1f} times real time ({stages})")
    library = open_library(work / "library", embedder.name)
    judged, groups = judgements.read(str(work / "queries.csv")), [row["group"] for row in rows_of(work / "queries.csv")]
    print(
        "| ranked by | R@1 | R@5 | R@10 | "
        + " | ".join(f"R@10, {g}" for g in sorted(set(groups)))
        + " | IoU ≥ 0.5 | start within |\n"
        + "|---" * 10
        + "|"
    )
    for evidence in ("fused", "lexical", "joined"):
        found = judgements.evaluate(library, judged, evidence=evidence)
        by_group = [
            judgements.evaluate(
                library, [q for q, of in zip(judged, groups, strict=True) if of == g], evidence=evidence
            )["R@10"]
            for g in sorted(set(groups))
        ]
        cells = [found["R@1"], found["R@5"], found["R@10"], *by_group, found["IoU≥0.5"], found["start"]]
        print(f"| {evidence} | " + " | ".join(f"{cell:.1f}" for cell in cells) + " |")
    print(
        "the model's own score of the same windows, R@1 of a window of the right moment:",
        f"{by_hand(library, judged):.1f}",
    )


def by_hand(library: Library, judged: list[judgements.Judged]) -> float:
    """R@1 by a full product over every window's frames, without store, candidates and moments."""
    view = library.view
    frames, mask, _ = library.store.frames(np.arange(len(view)))
    right = 0
    for row in judged:
        vector = library.embedder.texts([row.query])[0]
        best = int(library.embedder.score(vector, frames, mask).argmax())
        files = {file["file"] for file in view.files[view.names[view.contents[best]]]}
        right += row.file in files and view.starts[best] < row.end and view.ends[best] > row.start
    return 100 * right / len(judged)


def absent(work: Path, embedder: Embedder) -> None:
    """Queries about one thing, asked of libraries without it: how many are answered."""
    test = rows_of(work / "queries.csv")
    library = open_library(work / "library", embedder.name)
    view, things = library.view, ("car", "bird", "bell", "drum", "boat", "dog", "clock", "train", "house", "phone")
    fired = asked = answered = 0
    groups = [row for row in test if row["group"] == "vision"]
    frames, mask, _ = library.store.frames(np.arange(len(view)))
    for thing in things:
        about = [row for row in groups if f" {thing}" in f" {row['query']}"]
        if len(about) < 3:
            continue
        # Everything that shows it is taken out: windows that overlap a moment whose query names it.
        hidden = np.zeros(len(view), bool)
        for row in test:
            if f" {thing}" in f" {row['query']}":
                content = next(c for c, files in view.files.items() if any(f["file"] == row["file"] for f in files))
                same = view.contents == view.names.index(content)
                hidden |= same & (view.starts < float(row["end"])) & (view.ends > float(row["start"]))
        for row in about:
            scores = library.embedder.score(library.embedder.texts([row["query"]])[0], frames, mask)
            fired += scores[~hidden].max() >= library.store.about.cutoff["score"]
            answered += scores.max() >= library.store.about.cutoff["score"]
            asked += 1
    print(f"cut-off: {library.store.about.cutoff}")
    share = 100 * fired / asked
    print(f"{fired} of {asked} absent queries are answered ({share:.1f} %), {answered} of them where present")


def updates(work: Path, embedder: Embedder, sentences: list[str]) -> None:
    """What changed is read, nothing else."""
    folder, library = work / "changing", work / "changed"
    for path in (folder, library):
        shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(work / "videos", folder)
    index(folder, library, embedder, sentences)
    files = sorted(folder.rglob("*.mp4"))
    for number, path in enumerate(files[:10]):
        shutil.copy(path, folder / f"new {number}.mp4")
        with open(folder / f"new {number}.mp4", "ab") as file:
            file.write(bytes([number]))  # another content
    old = time.time() - 100
    for path in folder.glob("new *.mp4"):
        os.utime(path, (old, old))
    _, added = index(folder, library, embedder, sentences)
    for number, path in enumerate(files[10:40]):
        path.rename(path.with_name(f"moved {number}.mp4"))
    _, moved = index(folder, library, embedder, sentences)
    print(f"10 files added: {added.embedded} embedded, {added.same} as they were")
    print(f"30 files renamed: {moved.embedded} embedded, {moved.moved} moved")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--demo", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--parts", default="quality,cutoff,updates")
    args = parser.parse_args()
    make_library(args.demo, args.work)
    embedder = open_embedder(args.model)
    sentences = sentences_of(args.model)
    for part in args.parts.split(","):
        print(f"\n## {part}\n")
        if part == "quality":
            quality(args.work, embedder, sentences)
        elif part == "cutoff":
            absent(args.work, embedder)
        elif part == "updates":
            updates(args.work, embedder, sentences)
        else:
            sys.exit(f"no part {part!r}")


if __name__ == "__main__":
    main()
