"""Search of one's own videos, measured on the demo: quality, moments, the cut-off, evidence, and what an update costs.

    python tests/bench/search.py --demo data/demo --model runs/demo --work FOLDER [--parts quality,cutoff,updates,…]

Other parts: churn (2,000 runs of one file each), evaluators (the same windows embedded by the evaluator and by the
index), videogrep (the same words found by that program, from PyPI).

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
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1]))  # for helpers
from helpers.library import settle, update_plainly

from save_jax.search import cutoff, indexing, judgements, words
from save_jax.search.demo import arrange
from save_jax.search.door import open_library
from save_jax.search.embedder import Embedder
from save_jax.search.library import Library
from save_jax.search.models import open_embedder, sentences_of
from save_jax.search.store import Store, size_of
from save_jax.search.transcripts import Transcriber
from save_jax.search.windows import read as read_windows

UPDATES = 2000
JOINED = 10  # clips of a long file
NESTED = ("été à Paris", "2024/会議", "b 'quoted'", "a/b/c")


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# ---------------------------------------------------------------- the library


def make_library(demo: Path, out: Path) -> None:
    """Folder of videos with subtitles, and queries.csv beside it: query, file, start, end, group."""
    if (out / "queries.csv").exists():
        return
    shutil.rmtree(out, ignore_errors=True)
    annotations = demo / "Annotations"
    groups = {(row["video_id"], row["sentence"]): row["group"] for row in rows_of(annotations / "query_groups.csv")}
    test = rows_of(annotations / "MSRVTT_JSFUSION_test.csv")
    heard = json.loads((demo / "msrvtt10k_asr_text.json").read_text(encoding="utf-8"))
    said = {row["key"].removesuffix(".wav"): row["text"] for row in heard if row["text"]}
    found = arrange(demo, [row["video_id"] for row in test], said, out / "videos", JOINED, NESTED)
    with (out / "queries.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("query", "file", "start", "end", "group"))
        for row in test:
            path, start, end = found[row["video_id"]]
            group = groups[row["video_id"], row["sentence"]]
            writer.writerow((row["sentence"], f"videos/{path}", start, end, group))


def index(folder: Path, to: Path, embedder: Embedder, sentences: list[str]) -> tuple[Store, indexing.Summary]:
    """The index of a folder, made or brought up to date as the command does."""
    store = Store.open(str(to)) if (to / "library.json").exists() else Store.create(str(to), embedder, embedder.cut)
    jobs, change = os.cpu_count() or 1, indexing.with_folders([str(folder)])
    summary = indexing.update(store, embedder, Transcriber("", ""), jobs, progress=False, change=change)
    with store.writing():
        store.about.cutoff = cutoff.calibrate(Library(store, embedder), sentences or cutoff.RARE, "training")
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
    print(overlaps(library, judged))
    print(
        "the model's own score of the same windows, R@1 of a window of the right moment:",
        f"{by_hand(library, judged):.1f}",
    )


def overlaps(library: Library, judged: list[judgements.Judged]) -> str:
    """Where the first hit is in the right file: does its moment overlap the true one, and by how much?"""
    found = []
    for row in judged:
        [hit] = library.search(row.query, 1).hits
        if hit.name == row.file:
            found.append((judgements.overlap(hit, row.start or 0, row.end or 0), abs(hit.start - (row.start or 0))))
    elsewhere = sum(share == 0 for share, _ in found)
    little = sum(0 < share < judgements.IOU for share, _ in found)
    hop = library.store.about.hop
    return (
        f"{len(found)} first hits in the right file: {elsewhere} show another clip of it, {little} overlap by less "
        f"than half, {sum(start <= hop for _, start in found)} begin within a step of {hop:g} s"
    )


def by_hand(library: Library, judged: list[judgements.Judged]) -> float:
    """R@1 by a full product over every window's frames, without store, candidates and moments."""
    view = library.view
    frames, mask = library.store.frames(view.table, np.arange(len(view)))
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
    frames, mask = library.store.frames(view.table, np.arange(len(view)))
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
    own = [without_own(library, row, frames, mask) for row in test]
    without, present = (
        100 * np.mean([scores[k] >= library.store.about.cutoff["score"] for scores in own]) for k in (0, 1)
    )
    print(f"of all {len(test)} queries {without:.1f} % without their own windows, {present:.1f} % with them")


def without_own(library: Library, row: dict, frames: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
    """(best score without the windows that overlap what is meant, best score of all)."""
    view = library.view
    scores = library.embedder.score(library.embedder.texts([row["query"]])[0], frames, mask)
    content = next(c for c, files in view.files.items() if any(file["file"] == row["file"] for file in files))
    same = view.windows_of(content)
    own = same[(view.starts[same] < float(row["end"])) & (view.ends[same] > float(row["start"]))]
    return float(np.delete(scores, own).max()), float(scores.max())


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


def churn(work: Path) -> None:
    """Many runs of one file each, a fifth of them replacing what was there, against an index made at once."""
    folder, root = work / "churn", work / "churn" / "root"
    shutil.rmtree(folder, ignore_errors=True)
    root.mkdir(parents=True)
    times = []
    for number in range(UPDATES):
        path = root / f"{number if number % 5 else number // 2:04d}.mp4"
        path.write_text(f"content {number}")
        settle(path)
        begin = time.perf_counter()
        update_plainly(folder / "library", root)
        times.append(time.perf_counter() - begin)
    update_plainly(folder / "fresh", root)
    grown, least = size_of(str(folder / "library")), size_of(str(folder / "fresh"))
    print(f"{UPDATES} updates, {len(list(root.iterdir()))} files: {grown / 1e6:.1f} MB, at once {least / 1e6:.1f} MB,")
    print(f"{grown / least:.2f} times; an update took {1000 * np.median(times):.0f} ms, the longest {max(times):.1f} s")


def against_videogrep(work: Path) -> None:
    """The lines that hold a word, by videogrep and by a quoted phrase here: the same ones, and how long it takes."""
    import videogrep

    library = open_library(work / "library", "")
    files = sorted(str(path) for path in (work / "videos").rglob("*.mp4"))
    asked = [row["query"].split()[-1] for row in rows_of(work / "queries.csv") if row["group"] == "speech"]
    ours = theirs = same = 0.0
    for word in asked:
        begin = time.perf_counter()
        lines = words.find_phrases(library.store, [word])
        ours += time.perf_counter() - begin
        begin = time.perf_counter()
        found = videogrep.search(files, rf"\b{word}\b", "sentence") or []
        theirs += time.perf_counter() - begin
        same += len(lines) == len(found)
    count = len(asked)
    print(f"{count} words: as many lines in {same:.0f}; a question took {1000 * ours / count:.1f} ms here, and")
    print(f"{1000 * theirs / count:.1f} ms there, which reads {len(files)} files' subtitles each time")


def evaluators(demo: Path, embedder: Embedder) -> None:
    """The same clips embedded by the evaluator's loader and by the index's: windows a second, reading left out."""
    clips = sorted((demo / "VideoData").glob("*.mp4"))[:200]
    sizes = embedder.image_size, embedder.frames, embedder.cut
    made = [window for clip in clips for window in read_windows(str(clip), [], *sizes)]
    size, seconds = embedder.batch, {"evaluator": [], "index": []}
    for _ in range(3):
        for name, embed in (("evaluator", embedder.model.embed_clips), ("index", None)):
            begin = time.perf_counter()
            for first in range(0, len(made) - size + 1, size):
                part = made[first : first + size]
                embed([window.clip for window in part]) if embed else embedder.windows(part)
            seconds[name].append(time.perf_counter() - begin)
    ratio = min(seconds["index"]) / min(seconds["evaluator"])
    shown = {name: f"{min(values):.1f} s" for name, values in seconds.items()}
    print(f"{len(made)} windows of {len(clips)} clips: {shown}; the index takes {ratio:.2f} times the evaluator's time")


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
        elif part == "churn":
            churn(args.work)
        elif part == "videogrep":
            against_videogrep(args.work)
        elif part == "evaluators":
            evaluators(args.demo, embedder)
        else:
            sys.exit(f"no part {part!r}")


if __name__ == "__main__":
    main()
