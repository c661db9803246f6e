"""What all runners share: one item's result, or the `Failure` in its place; and the runner of this process."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any


@dataclasses.dataclass(frozen=True)
class Failure:
    """Stands in the place of a result; the reason is one that can be stored as UTF-8."""

    reason: str


def reason_of(error: Exception) -> str:
    """What to tell of an error: a ValueError speaks for itself, others need their kind. Odd file names are escaped."""
    text = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
    return text.encode("utf-8", "backslashreplace").decode()


def attempt(task: Callable, item: Any) -> Any:
    """The task's result, or the `Failure` that its error makes."""
    try:
        return task(item)
    except Exception as error:  # one odd file among ten thousand must not stop hours of work; its reason is kept
        return Failure(reason_of(error))


class Here:
    """Runs in this process: no limit of time, and a crash ends everything."""

    def __enter__(self) -> "Here":
        return self

    def __exit__(self, *_) -> None:
        pass

    def run(self, task: Callable, items: Iterable) -> Iterator[Any]:
        for item in items:
            yield attempt(task, item)
