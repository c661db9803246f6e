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
from save_jax.search.reading import Rows, embed_files, where
from save_jax.search.roots import Changes, Found
from save_jax.search.store import FAILED, READY, About, LibraryError, Store
from save_jax.search.transcripts import Transcriber

_COMMIT_FILES, _COMMIT_SECONDS = 64, 10.0
_TIDY_COMMITS = 32


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


def with_folders(folders: Sequence[str]) -> Callable[[About], None]:
    """For `update`: adds folders to the roots, as `name_roots` does."""

    def change(about: About) -> None:
        about.roots = name_roots(folders, about.roots)

    return change


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
    moved = [row | where(found) for found, row in changes.moved]
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
            rows.append(row | where(found))
    store.put_files(rows)
    summary.moved += len(rows)
    return rest


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
