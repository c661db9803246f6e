"""Folders that an index looks after: which files are in them now, and what became of those it knows.

A file is what it holds, not where it lies: moved or renamed, it keeps its vectors. A root that is not there is offline,
and its files stay known.
"""

import dataclasses
import hashlib
import os
import re
from collections.abc import Iterator, Mapping

from data_prep.corpora.folder import VIDEO_SUFFIXES
from data_prep.names import as_text

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


@dataclasses.dataclass
class Changes:
    """What differs between the roots and the index."""

    new: list[Found]  # to be read, changed ones among them
    copies: list[Found]  # of new ones
    moved: list[tuple[Found, dict]]  # with the row of the same content
    gone: list[str]  # names, of roots that are there
    same: int
    offline: list[str]  # roots
    growing: list[Found]  # left for the next run
    skipped: list[str]  # what cannot be read, in words


def walk(root: str, folder: str) -> Iterator[Found]:
    """Videos below a folder, in the order of their names. Hidden ones, and links, are passed over. Raises OSError."""
    for directory, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.startswith(".") or os.path.splitext(name)[1].lower() not in VIDEO_SUFFIXES:
                continue
            full = os.path.join(directory, name)
            if os.path.islink(full) or not os.path.isfile(full):
                continue
            about = os.stat(full)
            path = as_text(os.path.relpath(full, folder)).replace(os.sep, "/")
            yield Found(f"{root}/{path}", root, path, full, about.st_size, about.st_mtime_ns)


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


def content_of(path: str, size: int) -> str:
    """The size, and a hash of up to 17 blocks of 64 KiB from begin to end. Raises OSError."""
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        for number in range(_SAMPLES + 1):
            file.seek(max(0, (size - _BLOCK) * number // _SAMPLES))
            digest.update(file.read(_BLOCK))
            if size <= _BLOCK:
                break
    return f"{size}-{digest.hexdigest()}"


def compare(roots: Mapping[str, str], known: list[dict], now: float) -> Changes:
    """What is new, moved, gone or as it was. Reads parts of those files alone whose size or time differs.

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
                if row and (row["size"], row["modified"]) == (found.size, found.modified):
                    changes.same += 1
                elif now - found.modified / 1e9 < _GROWING and found.modified / 1e9 <= now:
                    changes.growing.append(found)
                else:
                    unknown.append(found)
        except OSError as error:  # what lies in it is not taken for gone
            changes.skipped.append(f"{error.filename}: {error.strerror}")
            seen |= {row["file"] for row in known if row["root"] == root}
    changes.gone = [row["file"] for row in known if row["root"] in roots and row["file"] not in seen]
    by_content = {row["content"]: row for row in known if row["content"] and row["state"] == "ready"}
    coming: set[str] = set()
    for found in unknown:
        try:
            content = content_of(found.full, found.size)
        except OSError as error:
            changes.skipped.append(f"{found.full}: {error.strerror}")
            continue
        if row := by_content.get(content):
            changes.moved.append((found, row))
        else:
            (changes.copies if content in coming else changes.new).append(found)
            coming.add(content)
    return changes
