"""Short films of what browsers cannot play: made when they are asked for, and kept within a limit of bytes.

One is made at a time of each file, few at once, and few more may wait. The oldest go first, by when they were last
asked for.
"""

import contextlib
import errno
import hashlib
import os
import tempfile
import threading
import weakref
from collections.abc import Callable

from anyio import CapacityLimiter, Lock, to_thread

from save_jax.search.server import encoding
from save_jax.search.server.opening import Gone, Opened

LONGEST, _MARGIN = 30.0, 2.0  # seconds
LIMIT = 2**29  # bytes of all films
_WAITING = 16  # requests that may wait for an encoder
_SUFFIX = ".mp4"


class Busy(Exception):
    """Too many films are asked for at once."""


class Full(Exception):
    """There is no room for a film; the message says why."""


def around(start: float, end: float, best: float, duration: float) -> tuple[float, float]:
    """Seconds of the film of a moment: a little more than it, and no more than 30 s."""
    begin, end = max(0.0, start - _MARGIN), min(duration, end + _MARGIN)
    if end - begin > LONGEST:
        begin = min(max(begin, best - LONGEST / 2), end - LONGEST)
    return round(begin, 1), round(min(end, begin + LONGEST), 1)


class Previews:
    """The films of an index."""

    def __init__(self, folder: str, limit: int = LIMIT, at_once: int = 0):
        """
        Args:
            folder: where they are kept; a temporary one where it cannot be written.
            limit: bytes.
            at_once: films that are encoded at the same time; by default one for two cores.
        """
        self._limit = limit
        self._encoders = at_once or max(1, (os.cpu_count() or 1) // 2)
        self._limiter: CapacityLimiter | None = None  # made in the loop that it is for
        self._turns: weakref.WeakValueDictionary[str, Lock] = weakref.WeakValueDictionary()
        self._waiting, self._stopping, self._writing = 0, threading.Event(), threading.Lock()
        self._temporary: tempfile.TemporaryDirectory | None = None
        self._folder = folder
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError:
            self._temporary = tempfile.TemporaryDirectory(prefix="save_jax-previews-")
            self._folder = self._temporary.name
        self._clear_unfinished()

    def stop(self) -> None:
        """Ends what is under way, soon."""
        self._stopping.set()

    def close(self) -> None:
        """Removes the temporary folder, if it took one."""
        if self._temporary:
            self._temporary.cleanup()

    async def get(self, id: str, take: Callable[[], Opened], row: dict, start: float, end: float) -> Opened:
        """The film between two seconds of a file, open; the caller closes it.

        `take`: opens the file. Raises Gone, Busy, Full, MediaError and InterruptedError.
        """
        key = f"{id} {row['content']} {row['modified']} {start:.1f} {end:.1f}"
        name = hashlib.blake2b(key.encode(), digest_size=16).hexdigest() + _SUFFIX
        if found := await to_thread.run_sync(self._kept, name):
            return found
        if self._waiting >= _WAITING:
            raise Busy
        self._limiter = self._limiter or CapacityLimiter(self._encoders)
        turn = self._turns.setdefault(id, Lock())
        self._waiting += 1
        try:
            async with turn:
                if found := await to_thread.run_sync(self._kept, name):
                    return found
                return await to_thread.run_sync(self._make, name, take, start, end, limiter=self._limiter)
        finally:
            self._waiting -= 1

    # ---------------------------------------------------------------- the folder

    def _kept(self, name: str) -> Opened | None:
        try:
            number = os.open(os.path.join(self._folder, name), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return None
        about = os.fstat(number)
        with contextlib.suppress(OSError):
            os.utime(number)  # it was asked for: it goes later
        return Opened(number, about.st_size, 0, "video/mp4")

    def _make(self, name: str, take: Callable[[], Opened], start: float, end: float) -> Opened:
        source = take()
        unfinished = os.path.join(self._folder, f"{name}.{os.getpid()}.{threading.get_ident()}.part")
        try:
            encoding.encode(source.path, unfinished, start, end, self._stopping.is_set)
            with self._writing:
                self._make_room(os.path.getsize(unfinished))
                os.replace(unfinished, os.path.join(self._folder, name))
        except InterruptedError:
            raise
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                self._make_room(self._limit)  # for the next one
                raise Full("the disk is full: no preview can be written") from error
            raise Full(f"no preview can be written ({error.strerror})") from error
        finally:
            os.close(source.number)
            with contextlib.suppress(OSError):
                os.unlink(unfinished)
        found = self._kept(name)
        if found is None:
            raise Gone("the preview was removed")
        return found

    def _make_room(self, size: int) -> None:
        """Removes the oldest films until so many bytes fit. Raises Full where they never do."""
        if size > self._limit:
            raise Full(f"a preview takes {size} bytes, and all of them may take {self._limit}")
        kept = []
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if entry.name.endswith(_SUFFIX):
                    with contextlib.suppress(OSError):
                        about = entry.stat(follow_symlinks=False)
                        kept.append((about.st_mtime_ns, about.st_size, entry.path))
        room = self._limit - sum(bytes for _, bytes, _ in kept)
        for _, bytes, path in sorted(kept):
            if room >= size:
                break
            with contextlib.suppress(OSError):
                os.unlink(path)
                room += bytes

    def _clear_unfinished(self) -> None:
        """Removes what a killed process left."""
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if entry.name.endswith(".part"):
                    with contextlib.suppress(OSError):
                        os.unlink(entry.path)
