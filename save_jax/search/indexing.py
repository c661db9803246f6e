"""Folders into an index: what changed is cut into windows, transcribed, embedded and committed, all at once.

Threads read and cut files; the model takes windows of several files together; whole files are committed every few
seconds. A run that is stopped or killed loses what was not committed, and the same command goes on.
"""

import dataclasses
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from tqdm import tqdm

from data_prep.names import as_text
from data_prep.runners import reason_of
from save_jax.data.command_line import visible
from save_jax.search import progress as sign
from save_jax.search import roots, windows, words
from save_jax.search.embedder import Embedded, Embedder
from save_jax.search.roots import Changes, Found
from save_jax.search.store import FAILED, READY, LibraryError, Store
from save_jax.search.transcripts import Spoken, Transcriber
from save_jax.search.windows import Window

_WAITING = 64  # windows that are read ahead, half a megabyte each
_COMMIT_FILES, _COMMIT_SECONDS = 64, 10.0
_TIDY_COMMITS = 32
_NOTES = 5  # of a file


@dataclasses.dataclass
class Rows:
    """All that is committed of one file."""

    file: dict
    windows: list[dict]
    segments: list[dict]


@dataclasses.dataclass
class Summary:
    """What a run did."""

    embedded: int = 0
    windows: int = 0
    moved: int = 0
    removed: int = 0
    same: int = 0
    failed: dict[str, str] = dataclasses.field(default_factory=dict)  # file → reason
    notes: int = 0  # files that lost something
    unread: int = 0  # words that windows have and the model does not read
    offline: list[str] = dataclasses.field(default_factory=list)
    growing: list[str] = dataclasses.field(default_factory=list)
    skipped: list[str] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    duration: float = 0.0  # of the videos
    stages: dict[str, float] = dataclasses.field(default_factory=dict)  # seconds, by what they were spent on
    stopped: bool = False


def name_roots(folders: Sequence[str], known: Mapping[str, str]) -> dict[str, str]:
    """Name → absolute path: those known, and each new folder under its own name. Raises LibraryError without folder."""
    named = dict(known)
    for folder in folders:
        path = os.path.abspath(folder)
        if path in named.values():  # also while it is offline
            continue
        if not os.path.isdir(path):
            raise LibraryError(f"{folder}: no such folder; give folders of videos")
        if inside := [other for other in named.values() if _overlap(other, path)]:
            raise LibraryError(f"{path} and {inside[0]} lie within each other; give the outer one alone")
        name = base = as_text(os.path.basename(path)) or "root"
        number = 2
        while name in named:
            name, number = f"{base}-{number}", number + 1
        named[name] = path
    return named


def _overlap(one: str, other: str) -> bool:
    try:
        return os.path.commonpath([one, other]) in (one, other)
    except ValueError:  # on two drives of Windows
        return False


def update(
    store: Store,
    embedder: Embedder,
    transcriber: Transcriber,
    jobs: int,
    progress: bool = True,
    embed: Callable[..., Iterator[Rows]] | None = None,
) -> Summary:
    """Brings an index up to date with its roots. Ctrl-C commits what is whole, and sets `Summary.stopped`.

    `embed`: in place of `embed_files`, with its first argument: elsewhere, on a cluster.
    """
    begin, summary = time.monotonic(), Summary()
    with store.writing():
        store.about.check(embedder, store.folder)
        store.save()
        store.clear_orphans()
        changes = roots.compare(store.about.roots, store.file_rows(), time.time())
        _take_over(store, changes, summary)
        total = sum(found.size for found in changes.new)
        bar = tqdm(
            total=total, desc="index", unit="B", unit_scale=True, disable=None if progress else True, file=sys.stderr
        )
        embed = embed or _here(store, embedder, transcriber, jobs, summary)
        with bar, sign.telling(store.folder, total) as tell:
            commit_all(store, embed(changes.new), summary, bar, tell)
            if changes.copies and not summary.stopped:
                commit_all(store, embed(_take_copies(store, changes.copies, summary)), summary, bar, tell)
        store.clear_orphans()  # contents of files that were replaced
        words.index(store)
        store.tidy()
    summary.seconds = time.monotonic() - begin
    return summary


def _here(store: Store, embedder: Embedder, transcriber: Transcriber, jobs: int, summary: Summary) -> Callable:
    cut = store.about.cut
    return lambda files: embed_files(files, embedder, transcriber, cut, jobs, summary.stages)


def _take_over(store: Store, changes: Changes, summary: Summary) -> None:
    """What needs no reading: moved files and those that are gone."""
    summary.same, summary.offline, summary.skipped = changes.same, changes.offline, changes.skipped
    summary.growing = [found.full for found in changes.growing]
    moved = [row | _where(found) for found, row in changes.moved]
    touched = sum(found.file == row["file"] for found, row in changes.moved)  # the same in all but its time
    store.put_files(moved)
    gone = [name for name in changes.gone if name not in {row["file"] for row in moved}]
    if gone:
        store.forget(gone)
    renamed = {row["file"] for _, row in changes.moved} & set(changes.gone)
    summary.same += touched
    summary.moved, summary.removed = len(moved) - touched, len(gone) - len(renamed)


def _take_copies(store: Store, copies: Sequence[Found], summary: Summary) -> list[Found]:
    """Adds files whose content was read under another name. Returns those that have to be read: it failed there."""
    by_content = {row["content"]: row for row in store.file_rows() if row["state"] == READY}
    rows, rest = [], []
    for found in copies:
        try:
            row = by_content.get(roots.content_of(found))
        except OSError:
            row = None
        if row is None:
            rest.append(found)
        else:
            rows.append(row | _where(found))
    store.put_files(rows)
    summary.moved += len(rows)
    return rest


def _where(found: Found) -> dict:
    return {
        "file": found.file, "root": found.root, "path": found.path, "size": found.size, "modified": found.modified,
        "lines": found.lines, "mounted": found.mounted,
    }  # fmt: skip


def commit_all(
    store: Store,
    made: Iterator[Rows],
    summary: Summary,
    bar: tqdm,
    tell: Callable[[int, str], None] = sign.to_nobody,
) -> None:
    """Puts files into the index every few seconds, counts them, and joins pieces now and then. Ctrl-C keeps what is
    whole, and sets `Summary.stopped`. `tell`: as `progress.telling` gives it.
    """
    waiting: list[Rows] = []
    commits, last = 0, time.monotonic()

    def commit() -> None:
        nonlocal commits, last
        if waiting:
            begin = time.monotonic()
            unique = {rows.file["content"]: rows for rows in waiting if rows.file["state"] == READY}  # copies: once
            store.put(
                [rows.file for rows in waiting],
                [row for rows in unique.values() for row in rows.windows],
                [row for rows in unique.values() for row in rows.segments],
            )
            waiting.clear()
            commits += 1
            if commits % _TIDY_COMMITS == 0:
                store.tidy()
            last = time.monotonic()
            summary.stages["commit"] = summary.stages.get("commit", 0.0) + last - begin

    try:
        for rows in made:
            waiting.append(rows)
            _count(rows, summary, bar)
            tell(rows.file["size"], rows.file["file"])
            if len(waiting) >= _COMMIT_FILES or time.monotonic() - last > _COMMIT_SECONDS:
                commit()
    except KeyboardInterrupt:
        summary.stopped = True
    commit()


def _count(rows: Rows, summary: Summary, bar: tqdm) -> None:
    file = rows.file
    if file["state"] == FAILED:
        summary.failed[file["file"]] = file["reason"]
        bar.write(visible(file["reason"]), file=sys.stderr)
    else:
        summary.embedded += 1
        summary.windows += file["windows"]
        summary.notes += bool(file["notes"])
        summary.unread += file["unread"]
        summary.duration += file["duration"]
    bar.update(file["size"])


# ---------------------------------------------------------------- reading and embedding


@dataclasses.dataclass
class Underway:
    """A file under way."""

    found: Found
    sample: str
    content: str
    spoken: Spoken
    notes: list[str]
    windows: list[dict] = dataclasses.field(default_factory=list)
    unread: int = 0


def embed_files(
    files: Sequence[Found],
    embedder: Embedder,
    transcriber: Transcriber,
    cut: windows.Cut,
    jobs: int,
    stages: dict[str, float],
) -> Iterator[Rows]:
    """Rows of each file, as soon as all of its windows are embedded; a file that cannot be read has a reason.

    Adds to `stages` the seconds of each: reading and transcribing are sums over threads, embedding is the main one's.
    """
    ready: queue.Queue = queue.Queue(_WAITING)
    todo, stop = iter(files), threading.Event()
    taking = threading.Lock()

    def put(item: tuple) -> None:
        while not stop.is_set():
            try:
                return ready.put(item, timeout=0.5)
            except queue.Full:
                continue

    def work() -> None:
        while not stop.is_set():
            with taking:
                found = next(todo, None)
            if found is None:
                break
            try:
                _read(found, embedder, transcriber, cut, put, stages)
            except Exception as error:  # one odd file stops nothing
                reason = reason_of(error)
                put(("failed", found, reason if found.full in reason else f"{found.full}: {reason}"))
        put(("end", None, None))

    threads = [threading.Thread(target=work, daemon=True) for _ in range(jobs)]
    for thread in threads:
        thread.start()
    try:
        yield from _embedded(ready, len(threads), embedder, stages)
    finally:
        stop.set()


def _read(
    found: Found,
    embedder: Embedder,
    transcriber: Transcriber,
    cut: windows.Cut,
    put: Callable,
    stages: dict[str, float],
) -> None:
    """Puts a file, its windows one by one, and its end."""
    notes: list[str] = []
    begin = time.monotonic()
    sample, content = roots.sample_of(found), roots.content_of(found)
    spoken = transcriber(found.full, found.subtitles, notes.append)
    _add(stages, "transcribe", begin)
    file = Underway(found, sample, content, spoken, notes)
    begin = time.monotonic()
    for window in windows.read(found.full, spoken.segments, embedder.image_size, embedder.frames, cut, notes.append):
        said = len(window.clip.transcript.split())
        file.unread += max(0, said - embedder.words + 2)  # begin and end of a text take a place each
        _add(stages, "decode", begin)
        put(("window", file, window))
        begin = time.monotonic()
    put(("whole", file, None))


def _embedded(ready: queue.Queue, readers: int, embedder: Embedder, stages: dict[str, float]) -> Iterator[Rows]:
    batch: list[tuple[Underway, Window]] = []
    whole: list[Underway] = []

    def embed() -> Iterator[Rows]:
        if batch:
            begin = time.monotonic()
            rows = embedder.windows([window for _, window in batch])
            for number, (file, window) in enumerate(batch):
                file.windows.append(window_row(file.content, window, rows, number))
            _add(stages, "embed", begin)
            batch.clear()
        for file in whole:
            yield rows_of(file)
        whole.clear()

    while readers:
        kind, file, given = ready.get()
        if kind == "end":
            readers -= 1
        elif kind == "failed":
            yield failed_rows(file, given)
        elif kind == "whole":
            whole.append(file)
        else:
            batch.append((file, given))
            if len(batch) == embedder.batch:
                yield from embed()
    yield from embed()


def _add(stages: dict[str, float], name: str, begin: float) -> None:
    stages[name] = stages.get(name, 0.0) + time.monotonic() - begin


def window_row(content: str, window: Window, rows: Embedded, number: int) -> dict:
    return {
        "content": content, "number": window.number, "start": window.start, "end": window.end,
        "times": window.clip.frame_times.tolist(), "mean": rows.mean[number],
        "frames": rows.frames[number].tobytes(), "terms": rows.terms[number].tobytes(),
        "words": window.clip.transcript, "picture": window.picture,
    }  # fmt: skip


def rows_of(file: Underway) -> Rows:
    """All that is committed of a file whose windows are embedded."""
    end = max((row["end"] for row in file.windows), default=0.0)
    about = _where(file.found) | {
        "content": file.content, "sample": file.sample, "state": READY, "reason": "",
        "notes": [*map(as_text, file.notes[:_NOTES])], "duration": end,
        "language": file.spoken.language, "source": file.spoken.source,
        "windows": len(file.windows), "unread": file.unread,
    }  # fmt: skip
    segments = [
        {"content": file.content, "number": number} | segment for number, segment in enumerate(file.spoken.segments)
    ]
    return Rows(about, file.windows, segments)


def failed_rows(found: Found, reason: str) -> Rows:
    """What an index keeps of a file that cannot be read."""
    about = _where(found) | {
        "content": "", "sample": "", "state": FAILED, "reason": as_text(reason), "notes": [], "duration": 0.0,
        "language": "", "source": "", "windows": 0, "unread": 0,
    }  # fmt: skip
    return Rows(about, [], [])
