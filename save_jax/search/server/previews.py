"""Short films of what browsers cannot play: made when they are asked for, and kept within a limit of bytes.

One is made at a time of each file, few at once, and few more may wait. The oldest go first, by when they were last
asked for.
"""

import contextlib
import dataclasses
import errno
import hashlib
import os
import re
import stat
import tempfile
import threading
import time
import weakref
from collections.abc import Callable

from anyio import CapacityLimiter, Lock, to_thread

from save_jax.search.server import encoding
from save_jax.search.server.opening import Gone, Opened
from save_jax.search.server.turns import HasLeft, while_there

LONGEST, _MARGIN = 30.0, 2.0  # seconds
LIMIT = 2**29  # bytes of all films
_WAITING, _OF_ONE = 16, 4  # films that may be made or waited for; of them, those that one client began
_NAME = re.compile(r"[0-9a-f]{32}\.mp4", re.ASCII)
_PART = re.compile(r"[0-9a-f]{32}\.mp4\.[0-9]+\.[0-9]+\.part", re.ASCII)


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


def folder_of(index: str) -> str:
    """Where the films of an index are kept: in the user's cache. Nothing of an index's maker is played from there."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    path = os.path.realpath(index)
    about = os.stat(path)
    key = f"{path} {about.st_dev} {about.st_ino}".encode("utf-8", "surrogateescape")
    return os.path.join(base, "save_jax-previews", hashlib.blake2b(key, digest_size=16).hexdigest())


@dataclasses.dataclass(eq=False)
class _Film:
    """One that is made or waited for."""

    client: str  # who began it
    readers: int = 0


async def _stays() -> bool:
    return False


class Previews:
    """The films of an index."""

    def __init__(self, folder: str, limit: int = LIMIT, at_once: int = 0):
        """
        Args:
            folder: where they are kept; a temporary one where it cannot be written, is a link, or another user's.
            limit: bytes.
            at_once: films that are encoded at the same time; by default one for two cores.
        """
        self._limit = limit
        self._encoders = at_once or max(1, (os.cpu_count() or 1) // 2)
        self._limiter: CapacityLimiter | None = None  # made in the loop that it is for
        self._turns: weakref.WeakValueDictionary[str, Lock] = weakref.WeakValueDictionary()
        self._films: dict[str, _Film] = {}
        self._stopping, self._writing = threading.Event(), threading.Lock()
        self._temporary: tempfile.TemporaryDirectory | None = None
        self._folder = folder
        if not _is_own(folder):
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

    async def get(
        self,
        id: str,
        take: Callable[[], Opened],
        row: dict,
        start: float,
        end: float,
        left: HasLeft = _stays,
        client: str = "",
    ) -> Opened:
        """The film between two seconds of a file, open; the caller closes it.

        Args:
            take: opens the file.
            left: whether the client is gone; what nobody waits for is not made to its end.
            client: its address.
        Raises:
            Gone, Busy, Full, Left, MediaError and InterruptedError.
        """
        key = f"{id} {row['content']} {row['modified']} {start:.1f} {end:.1f}"
        name = hashlib.blake2b(key.encode(), digest_size=16).hexdigest() + ".mp4"

        def look() -> Opened | None:
            os.close(take().number)  # a film is shown while its file is there
            return self._kept(name)

        if found := await to_thread.run_sync(look):
            return found
        film = self._films.get(name)
        if film is None:
            mine = sum(other.client == client for other in self._films.values())
            if len(self._films) >= _WAITING or mine >= _OF_ONE:
                raise Busy
            film = self._films[name] = _Film(client)
        limiter = self._limiter = self._limiter or CapacityLimiter(self._encoders)
        turn = self._turns.setdefault(id, Lock())

        async def make() -> Opened:
            async with turn:
                if found := await to_thread.run_sync(look):
                    return found
                ends = lambda: self._stopping.is_set() or not film.readers  # noqa: E731
                return await to_thread.run_sync(
                    self._make, name, take, start, end, ends, row["duration"], limiter=limiter
                )

        film.readers += 1
        there = [film]  # until the client leaves, or is answered

        def leave() -> None:
            if there:
                there.pop().readers -= 1

        try:
            return await while_there(make, left, leave)
        finally:
            leave()
            if not film.readers and self._films.get(name) is film:
                del self._films[name]

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

    def _make(
        self, name: str, take: Callable[[], Opened], start: float, end: float, ends: Callable[[], bool], duration: float
    ) -> Opened:
        source = take()
        unfinished = os.path.join(self._folder, f"{name}.{os.getpid()}.{threading.get_ident()}.part")
        try:
            encoding.encode(source.path, unfinished, start, end, ends, duration)
            with self._writing:
                self._make_room(os.path.getsize(unfinished))
                os.replace(unfinished, os.path.join(self._folder, name))
        except InterruptedError:
            raise
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                self._make_room(self._limit)  # for the next one
                raise Full("the disk is full: no preview can be written; free some space") from error
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
            raise Full(
                f"a preview takes {size} bytes, and all of them may take {self._limit}; give a larger --preview-mb"
            )
        kept = []
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if _NAME.fullmatch(entry.name):
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
        """Removes what a killed process left, and nothing that another one may be writing."""
        old = time.time() - encoding.PATIENCE
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if _PART.fullmatch(entry.name):
                    with contextlib.suppress(OSError):
                        if entry.stat(follow_symlinks=False).st_mtime < old:
                            os.unlink(entry.path)


def _is_own(folder: str) -> bool:
    """Whether it is, or has become, a folder of this user that can be written. A link would lead to others' files."""
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        about = os.lstat(folder)
        if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid():
            return False
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
