"""Folders that an index looks after: which files are in them now, and what became of those it knows.

A file is what it holds and the subtitles beside it, not where it lies: moved or renamed, it keeps its vectors. A root
that is not there is offline, and so is a folder in it whose disk is not mounted; their files stay known.
"""

import dataclasses
import hashlib
import os
import re
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from data_prep.corpora.folder import VIDEO_SUFFIXES, subtitles_of
from data_prep.names import as_text
from data_prep.speech import subtitles

_SAMPLES, _BLOCK = 16, 1 << 16
_GROWING = 2.0  # seconds: a file that was written to so lately may not be whole
_LONGEST_TEXT = 50 << 20  # bytes of subtitles; a film's are 0.1 MB
_COMPARED = ("size", "modified", "lines", "mounted")
_GONE = (FileNotFoundError, NotADirectoryError)
Lost = Callable[[str, str], object]  # takes a path and why it cannot be read


@dataclasses.dataclass(frozen=True)
class Found:
    """A video in a root."""

    file: str  # root and path: its name in the index
    root: str
    path: str  # below the root, with "/", as text that UTF-8 can hold
    full: str  # as the system opens it
    size: int
    modified: int  # nanoseconds
    subtitles: str = ""  # path of those beside it
    lines: str = ""  # their name, size and time
    mounted: bool = False  # it lies on another device than its root


@dataclasses.dataclass
class Changes:
    """What differs between the roots and the index."""

    new: list[Found]  # to be read, changed ones among them
    copies: list[Found]  # of new ones
    moved: list[tuple[Found, dict]]  # with the row of the same content
    gone: list[str]  # names, of roots that are there
    same: int
    offline: list[str]  # roots, and folders in them
    growing: list[Found]  # left for the next run
    skipped: list[str]  # what cannot be read, in words


def walk(root: str, folder: str, lost: Lost = lambda path, reason: None) -> Iterator[Found]:
    """Videos below a folder, in the order of their names. Hidden ones, and links, are passed over.

    `lost` hears of folders, files and subtitles that cannot be read; the others come all the same. Raises OSError where
    the folder itself cannot be looked at.
    """
    device, written = os.stat(folder).st_dev, set()
    for directory, folders, names in os.walk(folder, onerror=lambda error: lost(error.filename, _reason(error))):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        shown = [os.path.join(directory, name) for name in sorted(names) if not name.startswith(".")]
        videos = {path: about for path in shown if _suffix(path) in VIDEO_SUFFIXES and (about := _video(path, lost))}
        texts = {path: about for path in shown if _suffix(path) in subtitles.FORMATS and (about := _text(path, lost))}
        beside = subtitles_of(videos, {directory: [os.path.basename(path) for path in texts]}) if texts else {}
        for full, about in videos.items():
            said = beside.get(full, "")
            path = as_text(os.path.relpath(full, folder)).replace(os.sep, "/")
            if path in written:
                lost(full, "another file has this name once it is written as UTF-8; rename one")
                continue
            written.add(path)
            lines = as_text(f"{os.path.basename(said)} {texts[said].st_size} {texts[said].st_mtime_ns}") if said else ""
            name, mounted = f"{root}/{path}", about.st_dev != device
            yield Found(name, root, path, full, about.st_size, about.st_mtime_ns, said, lines, mounted)


def _video(path: str, lost: Lost) -> os.stat_result | None:
    """Of a regular file."""
    try:
        about = os.lstat(path)
    except _GONE:
        return None
    except OSError as error:
        lost(path, _reason(error))
        return None
    return about if stat.S_ISREG(about.st_mode) else None


def _text(path: str, lost: Lost) -> os.stat_result | None:
    """Of subtitles that can be read: a regular file, or a link to one."""
    try:
        about = os.stat(path)
    except OSError as error:
        lost(path, f"{_reason(error)}; its video is read without subtitles")
        return None
    if stat.S_ISREG(about.st_mode) and about.st_size <= _LONGEST_TEXT and os.access(path, os.R_OK):
        return about
    if not stat.S_ISREG(about.st_mode):
        reason = "no regular file"
    else:
        reason = "more than 50 MB" if about.st_size > _LONGEST_TEXT else "permission denied"
    lost(path, f"{reason}; its video is read without subtitles")
    return None


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def locate(folder: str, path: str) -> str:
    """Where a file of a root lies: the inverse of `Found.path`, whose escapes stand for bytes that are no UTF-8."""
    full = os.path.join(folder, *path.split("/"))
    if "\\x" in path and not os.path.lexists(full):
        escaped = re.sub(rb"\\x([89a-f][0-9a-f])", lambda found: bytes.fromhex(found[1].decode()), os.fsencode(full))
        return os.fsdecode(escaped)
    return full


def is_there(folder: str) -> bool:
    """Whether a root can be looked through. One that holds nothing, or hidden files alone, is taken for a folder whose
    disk is not mounted.
    """
    try:
        with os.scandir(folder) as entries:
            return any(not entry.name.startswith(".") for entry in entries)
    except OSError:
        return False


def sample_of(found: Found) -> str:
    """The size, and a hash of up to 17 blocks of 64 KiB from begin to end, and of the subtitles.

    Raises OSError, of the subtitles' name where they cannot be read.
    """
    digest = hashlib.blake2b(digest_size=16)
    with open(found.full, "rb") as file:
        for number in range(_SAMPLES + 1):
            file.seek(max(0, (found.size - _BLOCK) * number // _SAMPLES))
            digest.update(file.read(_BLOCK))
            if found.size <= _BLOCK:
                break
    _add_subtitles(digest, found)
    return f"{found.size}-{digest.hexdigest()}"


def content_of(found: Found) -> str:
    """The size, and a hash of the whole file and of the subtitles beside it. Raises OSError."""
    with open(found.full, "rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16))
    _add_subtitles(digest, found)
    return f"{found.size}-{digest.hexdigest()}"


def _add_subtitles(digest, found: Found) -> None:
    if found.subtitles:
        try:
            with open(found.subtitles, "rb") as file:
                digest.update(b"\0subtitles\0" + file.read(_LONGEST_TEXT))
        except OSError as error:  # one of reading has no name
            raise OSError(error.errno, error.strerror, found.subtitles) from error


def compare(roots: Mapping[str, str], known: list[dict], now: float, again: Collection[str] = frozenset()) -> Changes:
    """What is new, moved, gone or as it was.

    Reads parts of those files alone whose size or time differs, or that of their subtitles, and all of those that are
    like a known one in size and parts and not in time.

    Args:
        roots: name → folder.
        known: rows of the index's files.
        now: seconds since 1970.
        again: names of known files whose rows are not what they should be: they count as new.
    """
    rows = {row["file"]: row for row in known}
    changes = Changes([], [], [], [], 0, [], [], [])
    seen: set[str] = set()
    unknown: list[Found] = []
    for root, folder in roots.items():
        unread: list[str] = []  # what cannot be looked at, and is not taken for gone

        def lost(path: str | None, reason: str, folder: str = folder, unread: list[str] = unread) -> None:
            changes.skipped.append(f"{path or folder}: {reason}")
            unread.append(as_text(os.path.relpath(path or folder, folder)).replace(os.sep, "/"))

        there = is_there(folder)
        before, walked = len(changes.skipped), []
        try:
            walked = [*walk(root, folder, lost)] if there else []
        except OSError as error:
            lost(folder, _reason(error))
        if not there or not is_there(folder):  # a disk may go meanwhile
            del changes.skipped[before:]
            changes.offline.append(root)
            seen |= {row["file"] for row in known if row["root"] == root}
            continue
        seen |= {row["file"] for row in known if row["root"] == root and _lies_in(row["path"], unread)}
        for found in walked:
            seen.add(found.file)
            row = rows.get(found.file)
            if row and found.file not in again and all(row[name] == getattr(found, name) for name in _COMPARED):
                changes.same += 1
            elif now - found.modified / 1e9 < _GROWING and found.modified / 1e9 <= now:
                changes.growing.append(found)
            else:
                unknown.append(found)
    missing = [row for row in known if row["root"] in roots and row["file"] not in seen]
    away = {row["file"]: place for row in missing if row["mounted"] and (place := _unmounted(roots[row["root"]], row))}
    changes.offline += sorted(set(away.values()))
    for row in missing:
        if row["file"] in away:
            continue
        full = locate(roots[row["root"]], row["path"])
        try:
            os.lstat(full)
        except _GONE:
            pass
        except OSError as error:  # a share that does not answer
            changes.skipped.append(f"{full}: {_reason(error)}")
            continue
        changes.gone.append(row["file"])
    _sort_out(unknown, [row for row in known if row["state"] == "ready" and row["file"] not in again], changes)
    return changes


def _lies_in(path: str, places: Iterable[str]) -> bool:
    return any(place in (".", path) or path.startswith(f"{place}/") for place in places)


def _sort_out(unknown: Iterable[Found], ready: Iterable[dict], changes: Changes) -> None:
    """Files whose name, size or time is not known: moved ones, copies, and new ones."""
    by_sample: dict[str, list[dict]] = {}
    for row in ready:
        by_sample.setdefault(row["sample"], []).append(row)
    coming: set[str] = set()
    for found in unknown:
        try:
            found, sample = _sampled(found, changes)
            row = _same(found, by_sample.get(sample, []))
        except OSError as error:
            changes.skipped.append(f"{error.filename or found.full}: {_reason(error)}")
            continue
        if row:
            changes.moved.append((found, row))
        else:
            (changes.copies if sample in coming else changes.new).append(found)
            coming.add(sample)


def _sampled(found: Found, changes: Changes) -> tuple[Found, str]:
    """With its sample, and without subtitles where they cannot be read. Raises OSError."""
    try:
        return found, sample_of(found)
    except OSError as error:
        if not found.subtitles or error.filename != found.subtitles:
            raise
        changes.skipped.append(f"{found.subtitles}: {_reason(error)}; its video is read without subtitles")
        found = dataclasses.replace(found, subtitles="", lines="")
        return found, sample_of(found)


def _same(found: Found, alike: list[dict]) -> dict | None:
    """Of rows of one size and sample, the one of the same content; the file's own before others. Raises OSError."""
    alike = sorted(alike, key=lambda row: row["file"] != found.file)
    if not alike:
        return None
    # A time that differs is a doubt: a change between the blocks, where a disc image or a table was written to.
    if len({row["content"] for row in alike}) == 1 and (same := [r for r in alike if r["modified"] == found.modified]):
        return same[0]
    content = content_of(found)
    return next((row for row in alike if row["content"] == content), None)


def _unmounted(folder: str, row: dict) -> str:
    """For a file that lay on another device than its root: its folder, where that device is not there; else ""."""
    directory = os.path.dirname(locate(folder, row["path"]))
    while not os.path.isdir(directory):
        directory = os.path.dirname(directory)
    here = os.stat(directory).st_dev == os.stat(folder).st_dev
    return row["file"].rpartition("/")[0] if here else ""
