"""Files as rows of an index: threads read and cut them, and the model takes windows of several files together."""

import dataclasses
import errno
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import av.error

from data_prep.media.opening import MediaError
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
_PART = 512  # windows of a file that are handed on before its end: some 30 MB
_RAN_OUT = {errno.ENOMEM, errno.EMFILE, errno.ENFILE}


@dataclasses.dataclass
class Rows:
    """What is committed of one file: all of it, or windows of a long one, the last of which come with its row."""

    file: dict | None  # None for a part that more of the file follows
    windows: list[dict]
    segments: list[dict]
    part_of: str = ""  # name of the file, of such a part


@dataclasses.dataclass(frozen=True)
class Left:
    """A file that could not be read for no fault of its own: a disk that went, a dead worker. It is tried again."""

    found: Found
    reason: str


@dataclasses.dataclass
class Underway:
    """A file under way."""

    found: Found
    sample: str
    content: str
    spoken: Spoken
    notes: list[str]
    windows: list[dict] = dataclasses.field(default_factory=list)  # that were not handed on yet
    count: int = 0  # of all its windows
    end: float = 0.0
    unread: int = 0


def embed_files(
    files: Sequence[Found],
    embedder: Embedder,
    transcriber: Transcriber,
    cut: windows.Cut,
    jobs: int,
    stages: dict[str, float],
) -> Iterator[Rows | Left]:
    """Rows of each file, as soon as all of its windows are embedded; a file that cannot be read has a reason.

    Those of a long file come in parts. A file that was read in vain for another reason than itself is `Left`.
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
                _read(found, embedder, transcriber, cut, put, stages, stop)
            except Exception as error:  # one odd file stops nothing
                reason = reason_of(error)
                reason = reason if as_text(found.full) in as_text(reason) else f"{found.full}: {reason}"
                put(("failed" if _at_fault(found, error) else "left", found, reason))
        put(("end", None, None))

    threads = [threading.Thread(target=work, daemon=True) for _ in range(jobs)]
    for thread in threads:
        thread.start()
    try:
        yield from _embedded(ready, len(threads), embedder, stages)
    finally:
        stop.set()
        for thread in threads:  # what is being heard is kept
            thread.join()


def _at_fault(found: Found, error: Exception) -> bool:
    """Whether it is the file itself that cannot be read: nothing ran out, and its bytes are all there still."""
    if not isinstance(error, MediaError | av.error.FFmpegError):
        return False
    if {getattr(cause, "errno", None) for cause in (error, error.__cause__)} & _RAN_OUT:
        return False
    try:
        about = os.stat(found.full)
        roots.sample_of(found)
    except OSError:
        return False
    return (about.st_size, about.st_mtime_ns) == (found.size, found.modified)


def _read(
    found: Found,
    embedder: Embedder,
    transcriber: Transcriber,
    cut: windows.Cut,
    put: Callable,
    stages: dict[str, float],
    stop: threading.Event,
) -> None:
    """Puts a file, its windows one by one, and its end."""
    notes: list[str] = []
    begin = time.monotonic()
    sample, content = roots.sample_of(found), roots.content_of(found)
    spoken = transcriber(found.full, found.subtitles, notes.append, stop)
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


def _embedded(ready: queue.Queue, readers: int, embedder: Embedder, stages: dict[str, float]) -> Iterator[Rows | Left]:
    batch: list[tuple[Underway, Window]] = []
    whole: list[Underway] = []

    def embed() -> Iterator[Rows]:
        if batch:
            begin = time.monotonic()
            rows = embedder.windows([window for _, window in batch])
            for number, (file, window) in enumerate(batch):
                add_window(file, window, rows, number)
            _add(stages, "embed", begin)
            for file in {id(file): file for file, _ in batch}.values():
                if len(file.windows) >= _PART and file not in whole:
                    yield Rows(None, file.windows, [], file.found.file)
                    file.windows = []
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
        elif kind == "left":
            yield Left(file, given)
        elif kind == "whole":
            whole.append(file)
        else:
            batch.append((file, given))
            if len(batch) == embedder.batch:
                yield from embed()
    yield from embed()


def _add(stages: dict[str, float], name: str, begin: float) -> None:
    stages[name] = stages.get(name, 0.0) + time.monotonic() - begin


def add_window(file: Underway, window: Window, rows: Embedded, number: int) -> None:
    """The row of one window, embedded as `number` of its batch."""
    row = {
        "content": file.content, "number": window.number, "start": window.start, "end": window.end,
        "times": window.clip.frame_times.tolist(), "mean": rows.mean[number],
        "frames": rows.frames[number].tobytes(), "terms": rows.terms[number].tobytes(),
        "words": window.clip.transcript, "picture": window.picture,
    }  # fmt: skip
    file.windows.append(row)
    file.count, file.end = file.count + 1, max(file.end, window.end)


def rows_of(file: Underway) -> Rows:
    """What is committed of a file whose windows are embedded, but for the parts that went before."""
    about = where(file.found) | {
        "content": file.content, "sample": file.sample, "state": READY, "reason": "",
        "notes": [*map(as_text, file.notes[:_NOTES])], "duration": file.end,
        "language": file.spoken.language, "source": file.spoken.source,
        "heard": file.spoken.heard, "windows": file.count, "unread": file.unread,
    }  # fmt: skip
    segments = [
        {"content": file.content, "number": number} | segment for number, segment in enumerate(file.spoken.segments)
    ]
    return Rows(about, file.windows, segments)


def failed_rows(found: Found, reason: str) -> Rows:
    """What an index keeps of a file that cannot be read."""
    about = where(found) | {
        "content": "", "sample": "", "state": FAILED, "reason": as_text(reason), "notes": [], "duration": 0.0,
        "language": "", "source": "", "heard": "", "windows": 0, "unread": 0,
    }  # fmt: skip
    return Rows(about, [], [])


def where(found: Found) -> dict:
    """What a row says of where its file lies."""
    return {
        "file": found.file, "root": found.root, "path": found.path, "size": found.size, "modified": found.modified,
        "lines": found.lines, "mounted": found.mounted,
    }  # fmt: skip
