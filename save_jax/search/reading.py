"""Files as rows of an index: threads read and cut them, and the model takes windows of several files together."""

import dataclasses
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from data_prep.names import as_text
from data_prep.runners import reason_of
from save_jax.search import roots, windows
from save_jax.search.embedder import Embedded, Embedder
from save_jax.search.roots import Found
from save_jax.search.store import FAILED, READY
from save_jax.search.transcripts import Spoken, Transcriber
from save_jax.search.windows import Window

_WAITING = 64  # windows that are read ahead, half a megabyte each
_NOTES = 5  # of a file


@dataclasses.dataclass
class Rows:
    """All that is committed of one file."""

    file: dict
    windows: list[dict]
    segments: list[dict]


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
    about = where(file.found) | {
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
    about = where(found) | {
        "content": "", "sample": "", "state": FAILED, "reason": as_text(reason), "notes": [], "duration": 0.0,
        "language": "", "source": "", "windows": 0, "unread": 0,
    }  # fmt: skip
    return Rows(about, [], [])


def where(found: Found) -> dict:
    """What a row says of where its file lies."""
    return {
        "file": found.file, "root": found.root, "path": found.path, "size": found.size, "modified": found.modified,
        "lines": found.lines, "mounted": found.mounted,
    }  # fmt: skip
