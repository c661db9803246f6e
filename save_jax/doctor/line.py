"""One line of the doctor's answer, and how a check comes to it: whatever goes wrong within, there is a line."""

import threading
from collections.abc import Callable, Iterable
from typing import NamedTuple

_THREAD = "save_jax doctor"
LIMIT = 60.0  # seconds for a check: a TPU that waits for other hosts, or a dead network disk, never answers


class Line(NamedTuple):
    """What a check found."""

    name: str
    state: str  # "ok", "note" (works, and should be known) or "problem"
    text: str
    step: str = ""  # what to do next


def answered(name: str, check: Callable[[], Line | Iterable[Line]], limit: float = LIMIT, step: str = "") -> list[Line]:
    """The lines of a check. An error in it, or no answer within `limit` seconds, is a problem, with `step` after it."""
    lines: list[Line] = []

    def run() -> None:
        try:
            result = check()
            lines.extend([result] if isinstance(result, Line) else result)
        except BaseException as error:  # libraries that cannot be loaded raise all kinds, SystemExit among them
            text = " ".join(str(error).split())[:500]
            lines.append(
                Line(name, "problem", f"{type(error).__name__}: {text}" if text else type(error).__name__, step)
            )

    thread = threading.Thread(target=run, daemon=True, name=_THREAD)
    thread.start()
    thread.join(limit)
    if thread.is_alive():
        return [
            Line(name, "problem", f"no answer within {limit:g} s", step or "see what holds it: a disk, another host")
        ]
    return lines


def are_waiting() -> bool:
    """Whether a check still waits for its answer."""
    return any(thread.name == _THREAD for thread in threading.enumerate())
