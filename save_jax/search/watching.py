"""Folders that are followed: an index is brought up to date after each change in them."""

import os
import sys
import threading
import time
from collections.abc import Callable, Sequence

import watchfiles

from save_jax.data.command_line import visible
from save_jax.search import roots
from save_jax.search.indexing import Summary
from save_jax.search.store import LibraryError

_DEBOUNCE, _SETTLE = 3000, 2.0  # milliseconds, seconds: a file that is being written is left for the next turn
_LOOK = 15.0  # seconds: so often it is seen whether a disk came, and done again what could not be done


def follow(
    folders: Callable[[], Sequence[str]],
    index: str,
    turn: Callable[[], Summary],
    stop: threading.Event | None = None,
    look: float = _LOOK,
    debounce: int = _DEBOUNCE,
    settle: float = _SETTLE,
) -> None:
    """Calls `turn` after changes, until Ctrl-C, a turn that was stopped, or `stop`.

    A turn that fails, as while another process writes, is told and made again; so is one that left files which were
    still being written. Folders that are not there are looked for now and then.

    Args:
        folders: those to follow now.
        index: folder of the index, whose own changes are none, wherever it lies.
        look, settle: seconds; `debounce`: milliseconds.
    """
    stop, due = stop or threading.Event(), True  # for what changed before it is watched
    own = os.path.join(os.path.realpath(index), "")

    def foreign(change: watchfiles.Change, path: str) -> bool:
        return not os.path.join(os.path.realpath(path), "").startswith(own)

    def now() -> list[str]:
        return [folder for folder in folders() if roots.is_there(folder)]

    try:
        while not stop.is_set():
            there = now()
            if not there:
                stop.wait(look)
                continue
            for changes in watchfiles.watch(
                *there, watch_filter=foreign, debounce=debounce, stop_event=stop, rust_timeout=round(look * 1000),
                yield_on_timeout=True, raise_interrupt=True, ignore_permission_denied=True,
            ):  # fmt: skip
                if changes:
                    time.sleep(settle)
                if changes or due:
                    due = _turn(turn, stop)
                if now() != there:  # what came is watched first, and read then
                    due = True
                    break
    except KeyboardInterrupt:
        return


def _turn(turn: Callable[[], Summary], stop: threading.Event) -> bool:
    """Whether it has to be made again."""
    try:
        summary = turn()
    except (LibraryError, OSError) as error:
        print(f"{visible(str(error))}; tried again", file=sys.stderr)
        return True
    if summary.stopped:
        stop.set()
    return bool(summary.growing)
