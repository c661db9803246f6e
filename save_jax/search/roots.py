"""Folders that an index looks after: which files are in them now, and what became of those it knows.

A file is what it holds and the subtitles beside it, not where it lies: moved or renamed, it keeps its vectors. A root
that is not there is offline, and so is a folder in it whose disk is not mounted; their files stay known.
"""

import dataclasses
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping

from data_prep.corpora.folder import VIDEO_SUFFIXES, subtitles_of
from data_prep.names import as_text
from data_prep.speech import subtitles

_SAMPLES, _BLOCK = 16, 1 << 16
_GROWING = 2.0  # seconds: a file that was written to so lately may not be whole


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


def walk(root: str, folder: str) -> Iterator[Found]:
    """Videos below a folder, in the order of their names. Hidden ones, and links, are passed over. Raises OSError."""
    device = os.stat(folder).st_dev
    for directory, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        shown = [os.path.join(directory, name) for name in sorted(names) if not name.startswith(".")]
        videos = [path for path in shown if _suffix(path) in VIDEO_SUFFIXES]
        texts = [os.path.basename(path) for path in shown if _suffix(path) in subtitles.FORMATS]
        beside = subtitles_of(videos, {directory: texts}) if texts else {}
        mounted = bool(videos) and os.stat(directory).st_dev != device
        for full in videos:
            if os.path.islink(full) or not os.path.isfile(full):
                continue
            about, said = os.stat(full), beside.get(full, "")
            path = as_text(os.path.relpath(full, folder)).replace(os.sep, "/")
            yield Found(
                f"{root}/{path}", root, path, full, about.st_size, about.st_mtime_ns, said, _lines(said), mounted
            )


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _lines(path: str) -> str:
    if not path:
        return ""
    about = os.stat(path)
    return as_text(f"{os.path.basename(path)} {about.st_size} {about.st_mtime_ns}")


def locate(folder: str, path: str) -> str:
    """Where a file of a root lies: the inverse of `Found.path`, whose escapes stand for bytes that are no UTF-8."""
    full = os.path.join(folder, *path.split("/"))
    if "\\x" in path and not os.path.lexists(full):
        escaped = re.sub(rb"\\x([89a-f][0-9a-f])", lambda found: bytes.fromhex(found[1].decode()), os.fsencode(full))
        return os.fsdecode(escaped)
    return full


def _raise(error: OSError) -> None:
    raise error


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
    """The size, and a hash of up to 17 blocks of 64 KiB from begin to end, and of the subtitles. Raises OSError."""
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
        with open(found.subtitles, "rb") as file:
            digest.update(b"\0subtitles\0" + file.read())


def compare(roots: Mapping[str, str], known: list[dict], now: float) -> Changes:
    """What is new, moved, gone or as it was.

    Reads parts of those files alone whose size or time differs, or that of their subtitles, and all of those that are
    like a known one in size and parts and not in time.

    Args:
        roots: name → folder.
        known: rows of the index's files.
        now: seconds since 1970.
    """
    rows = {row["file"]: row for row in known}
    changes = Changes([], [], [], [], 0, [], [], [])
    seen: set[str] = set()
    unknown: list[Found] = []
    for root, folder in roots.items():
        if not is_there(folder):
            changes.offline.append(root)
            seen |= {row["file"] for row in known if row["root"] == root}
            continue
        try:
            for found in walk(root, folder):
                seen.add(found.file)
                row = rows.get(found.file)
                if row and (row["size"], row["modified"], row["lines"]) == (found.size, found.modified, found.lines):
                    changes.same += 1
                elif now - found.modified / 1e9 < _GROWING and found.modified / 1e9 <= now:
                    changes.growing.append(found)
                else:
                    unknown.append(found)
        except OSError as error:  # what lies in it is not taken for gone
            changes.skipped.append(f"{error.filename}: {error.strerror}")
            seen |= {row["file"] for row in known if row["root"] == root}
    missing = [row for row in known if row["root"] in roots and row["file"] not in seen]
    away = {row["file"]: place for row in missing if row["mounted"] and (place := _unmounted(roots[row["root"]], row))}
    changes.offline += sorted(set(away.values()))
    changes.gone = [row["file"] for row in missing if row["file"] not in away]
    _sort_out(unknown, known, changes)
    return changes


def _sort_out(unknown: Iterable[Found], known: Iterable[dict], changes: Changes) -> None:
    """Files whose name, size or time is not known: moved ones, copies, and new ones."""
    by_sample = {row["sample"]: row for row in known if row["state"] == "ready"}
    coming: set[str] = set()
    for found in unknown:
        try:
            sample = sample_of(found)
            row = by_sample.get(sample)
            # A time that differs is a doubt: a change between the blocks, where a disc image or a table was written to.
            if row and row["modified"] != found.modified and row["content"] != content_of(found):
                row = None
        except OSError as error:
            changes.skipped.append(f"{found.full}: {error.strerror}")
            continue
        if row:
            changes.moved.append((found, row))
        else:
            (changes.copies if sample in coming else changes.new).append(found)
            coming.add(sample)


def _unmounted(folder: str, row: dict) -> str:
    """For a file that lay on another device than its root: its folder, where that device is not there; else ""."""
    directory = os.path.dirname(locate(folder, row["path"]))
    while not os.path.isdir(directory):
        directory = os.path.dirname(directory)
    here = os.stat(directory).st_dev == os.stat(folder).st_dev
    return row["file"].rpartition("/")[0] if here else ""
