"""Folders into an index: what changed is cut into windows, transcribed, embedded and committed, all at once.

Threads read and cut files; the model takes windows of several files together; whole files are committed every few
seconds. A run that is stopped or killed loses what was not committed, and the same command goes on.
"""

import dataclasses
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from tqdm import tqdm

from data_prep.names import as_text
from save_jax.data.command_line import visible
from save_jax.search import progress as sign
from save_jax.search import roots, words
from save_jax.search.embedder import Embedder
from save_jax.search.reading import Left, Rows, embed_files, where
from save_jax.search.roots import Changes, Found
from save_jax.search.store import FAILED, READY, About, LibraryError, Store
from save_jax.search.transcripts import Transcriber

_COMMIT_FILES, _COMMIT_SECONDS = 64, 10.0
# Then less often: each commit makes readers build their view anew and write its means, 205 MB for 100,000 windows.
_SOON, _LATER_SECONDS = 60.0, 30.0
_COMMIT_WINDOWS = 4096  # and whenever so many wait: a quarter of a gigabyte
_TIDY_COMMITS = 32


@dataclasses.dataclass
class Summary:
    """What a run did."""

    embedded: int = 0
    windows: int = 0
    moved: int = 0
    removed: int = 0
    same: int = 0
    again: int = 0  # of files that were read again, since a recogniser is to hear them or rows were missing
    failed: dict[str, str] = dataclasses.field(default_factory=dict)  # file → reason
    left: int = 0  # of these, for no fault of their own: they are tried again by the next run
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
        if os.path.isfile(path):
            raise LibraryError(f"{folder} is a file; give the folder it lies in")
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


def with_folders(folders: Sequence[str], moved: Sequence[str] = ()) -> Callable[[About], None]:
    """For `update`: roots lie elsewhere, as `move_root` does, and there are others, as `name_roots` does."""

    def change(about: About) -> None:
        for given in moved:
            about.roots = move_root(given, about.roots)
        about.roots = name_roots(folders, about.roots)

    return change


def move_root(given: str, known: Mapping[str, str]) -> dict[str, str]:
    """`given`: OLD=NEW, the name or path of a root, and the folder where its files lie now.

    Raises LibraryError for a root that nobody knows, and for a folder that is not there or overlaps with another root.
    """
    halves = [(given[:at], given[at + 1 :]) for at, letter in enumerate(given) if letter == "="]
    for old, new in halves:
        if (name := root_of(old, known)) is None:
            continue
        others = {other: path for other, path in known.items() if other != name}
        path = os.path.abspath(new)
        if name_roots([new], others) == others:
            raise LibraryError(f"{new} is a root already; forget that one first (save-jax search forget --root)")
        return dict(known) | {name: path}
    raise LibraryError(f"--moved {given}: it takes OLD=NEW, where OLD is one of {', '.join(known) or 'no root'}")


def root_of(given: str, known: Mapping[str, str]) -> str | None:
    """The name of a root, by that or by its path."""
    if given in known:
        return given
    return next((name for name, path in known.items() if path == os.path.abspath(given)), None)


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
    embed: Callable[..., Iterator[Rows | Left]] | None = None,
    change: Callable[[About], None] = lambda about: None,
) -> Summary:
    """Brings an index up to date with its roots. Ctrl-C commits what is whole, and sets `Summary.stopped`.

    Args:
        embed: in place of `embed_files`, with its first argument: elsewhere, on a cluster.
        change: what is to be another way from now on, such as `with_folders(…)`. It is asked once no other process
            writes, with what the last one left; what is set in `store.about` before is not kept.
    Raises:
        LibraryError as `Store.writing` and `change` do, and for a model whose vectors are not those of the rows.
    """
    begin, summary = time.monotonic(), Summary()
    with store.writing():
        store.about.check(embedder, store.folder)
        change(store.about)
        store.save()
        store.clear_orphans()
        known = store.file_rows()
        silent = _unheard(known, transcriber.recogniser)
        again = silent | store.halves()
        changes = roots.compare(store.about.roots, known, time.time(), again)
        _take_over(store, changes, summary)
        total = sum(found.size for found in changes.new)
        bar = tqdm(
            total=total, desc="index", unit="B", unit_scale=True, disable=None if progress else True, file=sys.stderr
        )
        summary.again = sum(found.file in again for found in (*changes.new, *changes.copies))
        if heard := sum(found.file in silent for found in (*changes.new, *changes.copies)):
            bar.write(f"{heard} files are read again: {transcriber.recogniser} is to hear them", file=sys.stderr)
        embed = embed or _here(store, embedder, transcriber, jobs, summary)
        with bar, sign.telling(store.folder, total) as tell:
            commit_all(store, embed(changes.new), summary, bar, tell)
            if changes.copies and not summary.stopped:
                rest = _take_copies(store, changes.copies, transcriber.recogniser, summary)
                commit_all(store, embed(rest), summary, bar, tell)
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
    moved = [row | where(found) for found, row in changes.moved]
    touched = sum(found.file == row["file"] for found, row in changes.moved)  # the same in all but its time
    store.put_files(moved)
    gone = [name for name in changes.gone if name not in {row["file"] for row in moved}]
    if gone:
        store.forget(gone)
    renamed = {row["file"] for _, row in changes.moved} & set(changes.gone)
    summary.same += touched
    summary.moved, summary.removed = len(moved) - touched, len(gone) - len(renamed)


def _unheard(rows: Sequence[dict], recogniser: str) -> set[str]:
    """Names of files that this recogniser did not hear and should: those without subtitles."""
    return {
        row["file"]
        for row in rows
        if recogniser and row["state"] == READY and (row["heard"] or not row["source"]) and row["heard"] != recogniser
    }


def _take_copies(store: Store, copies: Sequence[Found], recogniser: str, summary: Summary) -> list[Found]:
    """Adds files whose content was read under another name. Returns those that have to be read: it failed there."""
    known = store.file_rows()
    wrong = _unheard(known, recogniser) | store.halves()
    by_content = {row["content"]: row for row in known if row["state"] == READY and row["file"] not in wrong}
    rows, rest = [], []
    for found in copies:
        try:
            row = by_content.get(roots.content_of(found))
        except OSError:
            row = None
        if row is None:
            rest.append(found)
        else:
            rows.append(row | where(found))
    store.put_files(rows)
    summary.moved += len(rows)
    return rest


def commit_all(
    store: Store,
    made: Iterator[Rows | Left],
    summary: Summary,
    bar: tqdm,
    tell: Callable[[int, str], None] = sign.to_nobody,
) -> None:
    """Puts files into the index every few seconds, counts them, and joins pieces now and then. Ctrl-C keeps what is
    whole, and sets `Summary.stopped`. `tell`: as `progress.telling` gives it.
    """
    waiting: list[Rows] = []
    owners: dict[str, str] = {}  # content → the one file whose rows of it count: copies are read side by side
    begun: set[str] = set()
    commits, first = 0, time.monotonic()
    last = first

    def commit() -> None:
        nonlocal commits, last
        if waiting:
            begin = time.monotonic()
            segments = [row for rows in waiting for row in rows.segments]
            put = [row for rows in waiting for row in rows.windows]
            store.put([rows.file for rows in waiting if rows.file], put, segments, begun)
            begun.update(row["content"] for row in (*put, *segments))
            waiting.clear()
            if segments:
                words.index(store)  # searched from the first words on
            commits += 1
            if commits % _TIDY_COMMITS == 0:
                store.tidy()
            last = time.monotonic()
            summary.stages["commit"] = summary.stages.get("commit", 0.0) + last - begin

    def due() -> bool:
        now = time.monotonic()
        if sum(len(rows.windows) for rows in waiting) >= _COMMIT_WINDOWS:
            return True
        if now - first > _SOON:
            return now - last > _LATER_SECONDS
        return len(waiting) >= _COMMIT_FILES or now - last > _COMMIT_SECONDS

    try:
        for rows in made:
            if isinstance(rows, Left):
                summary.left += 1
                _fail(rows.found.file, rows.found.size, rows.reason, summary, bar)
                tell(rows.found.size, rows.found.file)
            else:
                content = rows.file["content"] if rows.file else rows.windows[0]["content"]
                name = rows.file["file"] if rows.file else rows.part_of
                if content and owners.setdefault(content, name) != name:
                    rows = Rows(rows.file, [], [])
                waiting.append(rows)
                _count(rows, summary, bar)
                if rows.file:
                    tell(rows.file["size"], rows.file["file"])
            if due():
                commit()
    except KeyboardInterrupt:
        summary.stopped = True
    commit()


def _count(rows: Rows, summary: Summary, bar: tqdm) -> None:
    if (file := rows.file) is None:
        return
    if file["state"] == FAILED:
        _fail(file["file"], file["size"], file["reason"], summary, bar)
        return
    summary.embedded += 1
    summary.windows += file["windows"]
    summary.notes += bool(file["notes"])
    summary.unread += file["unread"]
    summary.duration += file["duration"]
    bar.update(file["size"])


def _fail(name: str, size: int, reason: str, summary: Summary, bar: tqdm) -> None:
    summary.failed[name] = as_text(reason)
    bar.write(visible(reason), file=sys.stderr)
    bar.update(size)
