"""The loop over the workers of a pool: gives out items, keeps limits of time, returns results in order.

The pool is our own because one killed worker must not harm the others. The pools of the standard library and of loky
break as a whole. The workers of pebble 5.2 share a lock: it hangs when one is killed while it sends a result. Here
every worker has a channel of its own and one item at a time.
"""

import abc
import pickle
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from data_prep.runners.base import Failure

_AHEAD = 4  # items per worker that may be under way or finished, waiting for an earlier one: bounds memory
_DIED = "the worker process died on this clip (a crash in a decoder, or no memory left)"
_STILLBORN = 3  # workers in a row that end before they have begun: the machine, not bad luck
_START_SECONDS = 600  # importing on a busy machine or file system takes its time
_END = object()


class Died(Exception):
    """A worker is gone."""


class Pool(abc.ABC):
    """The loop of both pools.

    A subclass says what a worker is. A worker has `give`, `take`, `gone` and `kill`.
    """

    _dumps = staticmethod(pickle.dumps)

    def __init__(self, jobs: int, time_limit: float | None):
        if jobs < 1 or (time_limit is not None and time_limit <= 0):
            raise ValueError(
                f"{jobs} workers with a limit of {time_limit} s per clip cannot do anything; give --jobs of at least 1 "
                "and --time-limit above 0"
            )
        self._jobs, self._time_limit, self._workers = jobs, time_limit, []

    @abc.abstractmethod
    def _start(self, task: bytes) -> Any:
        """Makes a worker for a pickled task."""

    @abc.abstractmethod
    def _wait(self, workers: list[Any], timeout: float | None) -> list[Any]:
        """The workers that have answered, after `timeout` seconds at most; None: without limit."""

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_) -> None:
        while self._workers:
            self._workers.pop().kill()

    def run(self, task: Callable, items: Iterable) -> Iterator[Any]:
        """Yields `task(item)`, or a `Failure`, for each item in order. One run at a time.

        Raises ValueError where workers cannot start at all: the task does not unpickle there, say.
        """
        data, items = self._dumps(task), iter(items)
        upcoming = next(items, _END)
        answers, given, returned, stillborn = {}, 0, 0, 0  # answers by number, until all earlier ones are returned
        idle, under_way = [], {}  # worker → (number of its item, when it must be done); number None while it starts

        def dismiss(worker: Any) -> None:
            self._workers.remove(worker)
            worker.kill()

        try:
            while upcoming is not _END or returned < given:
                while len(self._workers) < self._jobs and upcoming is not _END:
                    self._workers.append(self._start(data))
                    under_way[self._workers[-1]] = None, time.monotonic() + _START_SECONDS
                while idle and upcoming is not _END and given - returned < _AHEAD * self._jobs:
                    worker = idle.pop()
                    if worker.gone():  # while it had nothing to do: nobody's fault
                        dismiss(worker)
                        continue
                    worker.give(upcoming)
                    under_way[worker] = given, self._time_limit and time.monotonic() + self._time_limit
                    upcoming, given = next(items, _END), given + 1

                if not under_way and returned not in answers:
                    continue  # those that were idle are gone: waiting for nobody would not end
                for worker in self._wait(list(under_way), 0 if returned in answers else _patience(under_way)):
                    number, _ = under_way.pop(worker)
                    try:
                        answer = worker.take()
                    except Died:
                        dismiss(worker)
                        stillborn += number is None
                        if stillborn == _STILLBORN:
                            raise ValueError("worker processes end before they have begun") from None
                        answer = Failure(_DIED)
                    else:
                        if number is None and answer is not None:
                            raise ValueError(f"worker processes cannot start: {answer}")
                        stillborn = 0
                        idle.append(worker)
                    if number is not None:
                        answers[number] = answer
                for worker in [worker for worker, (_, due) in under_way.items() if due and due < time.monotonic()]:
                    number, _ = under_way.pop(worker)
                    if number is None:
                        raise ValueError(
                            f"a worker has not started within {_START_SECONDS} s; is the machine, or the cluster, full?"
                        )
                    answers[number] = Failure(f"took longer than the limit of {self._time_limit:g} s (--time-limit)")
                    dismiss(worker)

                if returned in answers:
                    returned += 1
                    yield answers.pop(returned - 1)
        finally:
            Pool.__exit__(self)


def _patience(under_way: dict) -> float | None:
    """Seconds until the first item under way is overdue; None without limit."""
    due = [due for _, due in under_way.values() if due]
    return max(0.0, min(due) - time.monotonic()) if due else None
