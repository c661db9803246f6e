"""What the files of a corpus hold, by digests: a file is read once, and again only where it may have changed.

Content decides whether a shard is out of date. What the file system says of a file (size, times, inode) decides only
whether its content must be read again. Another file in its place has another inode; a file that was written to has
another time of change (ctime), which no program sets back, as it does the time of writing.

The digests are noted in a file of their own beside the shards. Reports and manifests stay the same for the same corpus,
and where the notes are lost, files are read again.
"""

import hashlib
import json
import multiprocessing.pool
import os
import time
from collections.abc import Iterable

from tqdm import tqdm

from data_prep.files import write_json

NOTES = ".contents.json"
_PIECES, _PIECE = 16, 2**16  # of a large file: how many are read, and how long they are
_SETTLED_NS = 2 * 10**9  # the coarsest clock of a file system: a file could change later and keep its times
_THREADS = 8  # they wait for disks and networks


def digest(path: str) -> str:
    """SHA-256 of a file's size and content: of all of it up to 1 MiB, of 16 pieces of it beyond."""
    size, content = os.path.getsize(path), hashlib.sha256()
    content.update(str(size).encode())
    with open(path, "rb") as file:
        if size <= _PIECES * _PIECE:
            content.update(file.read())
        else:
            for number in range(_PIECES):  # the first and the last among them
                file.seek(number * (size - _PIECE) // (_PIECES - 1))
                content.update(file.read(_PIECE))
    return content.hexdigest()


class Contents:
    """The files of the corpus in `root`, as far as they were asked for."""

    def __init__(self, root: str, folder: str | None = None):
        """`folder`: where notes are read, and written by `keep`. Without it every file is read."""
        self._root, self._path = root, os.path.join(folder, NOTES) if folder else None
        self._before = _read_notes(self._path) if self._path else {}  # name → size, times, inode, digest
        self._now: dict[str, list] = {}
        self._described: dict[str, list] = {}

    def read(self, paths: Iterable[str]) -> None:
        """Describes many at once, under a progress bar. Raises OSError for a file that cannot be read."""
        new = [path for path in dict.fromkeys(paths) if path not in self._described]
        with multiprocessing.pool.ThreadPool(_THREADS) as pool:  # Ctrl-C does not wait for the rest
            results = pool.imap(self._describe, new, chunksize=16)
            bar = tqdm(results, "compare files", total=len(new), unit="file", leave=False, disable=None)
            self._described |= zip(new, bar, strict=True)

    def describe(self, path: str | None) -> list | None:
        """[path in `root`, digest], or None for no path.

        Without such a file the digest is None; for a folder of pictures it is a list of [name, digest].
        """
        if path is not None and path not in self._described:
            self._described[path] = self._describe(path)
        return None if path is None else self._described[path]

    def keep(self) -> None:
        """Writes the notes, of the files that were asked for. Raises OSError (a full disk)."""
        if self._path and self._now != self._before:
            write_json(self._path, self._now, ascii_only=True)

    def _describe(self, path: str) -> list:
        name = os.path.relpath(path, self._root)
        if os.path.isdir(path):
            inside = sorted(entry.name for entry in os.scandir(path) if entry.is_file())
            return [name, [[picture, self._digest(os.path.join(path, picture))] for picture in inside]]
        return [name, self._digest(path) if os.path.isfile(path) else None]

    def _digest(self, path: str) -> str:
        name, status, start = os.path.relpath(path, self._root), os.stat(path), time.time_ns()
        system = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
        known = self._before.get(name)
        if known is None or known[:-1] != system:
            known = [*system, digest(path)]
        if start - status.st_ctime_ns > _SETTLED_NS:
            self._now[name] = known
        return known[-1]


def _read_notes(path: str) -> dict[str, list]:
    try:
        with open(path, encoding="utf-8") as file:
            notes = json.load(file)
        return {name: [*map(int, system), str(content)] for name, (*system, content) in notes.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
