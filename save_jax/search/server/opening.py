"""Opens a file of an index for reading: by its row, below its root, without following a link.

An index may have been made by a stranger, and its folders may be written to while it is served. So no part of a path
is trusted: each is opened from the one before, and what is open at the end must be the very file that was indexed.
"""

import contextlib
import os
import stat
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from data_prep.corpora.folder import VIDEO_SUFFIXES
from save_jax.search import roots

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # no waiting for the other end of a pipe
# What a file's first bytes say: only these are sent, whatever a name promises. Browsers play films of QuickTime as MP4.
_KINDS = (
    (4, b"ftyp", "video/mp4"), (4, b"moov", "video/mp4"), (4, b"mdat", "video/mp4"), (4, b"wide", "video/mp4"),
    (0, b"\x1aE\xdf\xa3", "video/webm"),
)  # fmt: skip
OTHER = "application/octet-stream"


class Gone(Exception):
    """An indexed file is not there, or is another one than was indexed; the message says it without a path."""


class Opened(NamedTuple):
    """A regular file. `path` leads to it while it is open, whatever becomes of its name."""

    number: int  # descriptor
    size: int
    modified: int  # nanoseconds
    kind: str  # content type, by its first bytes

    @property
    def path(self) -> str:
        return f"/dev/fd/{self.number}"


@contextlib.contextmanager
def opened(row: Mapping, folders: Mapping[str, str]) -> Iterator[Opened]:
    """A file of an index, closed at the end.

    Args:
        row: of the index's files.
        folders: name → path, of its roots.
    Raises:
        Gone.
    """
    file = take(row, folders)
    try:
        yield file
    finally:
        os.close(file.number)


def take(row: Mapping, folders: Mapping[str, str]) -> Opened:
    """As `opened`; the caller closes it."""
    number = _descend(row, folders)
    try:
        about = os.fstat(number)
        if not stat.S_ISREG(about.st_mode):
            raise Gone("the file is not there any more")
        if (about.st_size, about.st_mtime_ns) != (row["size"], row["modified"]):
            raise Gone("the file has changed since it was indexed; save-jax search index takes it up again")
        return Opened(number, about.st_size, about.st_mtime_ns, _kind(os.pread(number, 64, 0)))
    except OSError as error:
        os.close(number)
        raise Gone("the file cannot be read") from error
    except Gone:
        os.close(number)
        raise


def _descend(row: Mapping, folders: Mapping[str, str]) -> int:
    """The descriptor of what lies at a row's path. Raises Gone."""
    folder = folders.get(row["root"], "")
    *_, name = parts = _parts(row["path"])
    if not os.path.isabs(folder) or os.path.splitext(name)[1].lower() not in VIDEO_SUFFIXES:
        raise Gone("the file is not there any more")
    *inner, name = os.path.relpath(roots.locate(folder, "/".join(parts)), folder).split(os.sep)
    try:
        here = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)  # a root itself may be a link
        try:
            for part in inner:
                inside = os.open(part, _FOLDER, dir_fd=here)
                os.close(here)
                here = inside
            # Opening a device may do something; it is looked at first, and again when it is open.
            if not stat.S_ISREG(os.stat(name, dir_fd=here, follow_symlinks=False).st_mode):
                raise FileNotFoundError
            return os.open(name, _FILE, dir_fd=here)
        finally:
            os.close(here)
    except (OSError, ValueError) as error:
        raise Gone("the file is not there any more") from error


def _parts(path: str) -> list[str]:
    parts = path.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise Gone("the file is not there any more")
    return parts


def _kind(head: bytes) -> str:
    kind = next((kind for at, mark, kind in _KINDS if head[at : at + len(mark)] == mark), OTHER)
    return "video/x-matroska" if kind == "video/webm" and b"webm" not in head else kind
