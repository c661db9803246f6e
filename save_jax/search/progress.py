"""How far an indexer is, for other processes: progress.json in the index's folder, there while it runs.

Written once a second, so that an old one tells of a process that was killed.
"""

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypedDict

NAME = "progress.json"
_EVERY = 1.0  # seconds
_STALE = 15.0  # seconds without a sign: the machine was busy, or the process is gone


class Progress(TypedDict):
    """What is done of a run."""

    done: int
    total: int
    unit: str  # "B"
    seconds_left: float | None  # None while nothing is known
    file: str  # the last one that was finished


def to_nobody(size: int, file: str) -> None:
    """Where nobody asks."""


@contextlib.contextmanager
def telling(folder: str, total: int) -> Iterator[Callable[[int, str], None]]:
    """Gives `tell(bytes, file)`, to be called for each file that is done. What cannot be written stops nothing.

    `total`: bytes of all files; nothing is told of none.
    """
    if not total:
        yield to_nobody
        return
    begin, ended = time.monotonic(), threading.Event()
    now = Progress(done=0, total=total, unit="B", seconds_left=None, file="")

    def tell(size: int, file: str) -> None:
        now["done"] += size
        now["file"] = file

    def write() -> None:
        while not ended.is_set():
            if now["done"]:
                spent = time.monotonic() - begin
                now["seconds_left"] = round(spent * max(0, total - now["done"]) / now["done"], 1)
            _write(folder, dict(now))
            ended.wait(_EVERY)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    try:
        yield tell
    finally:
        ended.set()
        writer.join()
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(folder, NAME))


def _write(folder: str, now: dict) -> None:
    path = os.path.join(folder, NAME)
    mark = {"pid": os.getpid(), "host": socket.gethostname(), "time": time.time()}
    with contextlib.suppress(OSError):
        with open(f"{path}.tmp", "w", encoding="utf-8") as file:
            json.dump(now | mark, file)
        os.replace(f"{path}.tmp", path)


def read(folder: str) -> Progress | None:
    """None where no indexer runs, or one was killed."""
    try:
        with open(os.path.join(folder, NAME), encoding="utf-8") as file:
            found = json.load(file)
        if abs(time.time() - found["time"]) > _STALE or (found["host"] == socket.gethostname() and _dead(found["pid"])):
            return None
        left = found["seconds_left"]
        return Progress(
            done=int(found["done"]), total=int(found["total"]), unit="B", file=str(found["file"]),
            seconds_left=None if left is None else float(left),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _dead(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:  # of another user
        return False
    return False
