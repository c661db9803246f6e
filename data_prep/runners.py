"""Where a task runs over many items: in this process, in processes of this machine, or on a Ray cluster.

    with runners.Local(jobs=8, time_limit=600) as runner:
        for result in runner.run(task, items): ...

One result for each item, in the items' order. What an item costs stays with it: an error, a crash of the process or an
overrun gives a `Failure` in its place. A task is a picklable callable; each worker unpickles it once a run and keeps
it, so that a model which the task loads at its first call, and leaves out of `__getstate__`, is loaded once per worker.

The pool of processes is our own because one killed worker must not harm the others: the pools of the standard library
and of loky break as a whole, and pebble 5.2's workers share a lock, so that it hangs when one is killed while it sends
a result. Here every worker has a pipe of its own and one item at a time.
"""

import argparse
import contextlib
import dataclasses
import multiprocessing
import multiprocessing.connection
import multiprocessing.resource_tracker
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

_AHEAD = 4  # items per worker that may be under way or finished, waiting for an earlier one: bounds memory
_DIED = "the worker process died on this clip (a crash in a decoder, or no memory left)"
_STILLBORN = 3  # workers in a row that end before they have begun: the machine, not bad luck
_START_SECONDS = 600  # importing on a busy machine or file system takes its time
_END = object()


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


class _Died(Exception):
    """A worker is gone."""


class _Pool:
    """The loop of both pools. `_start` gives a worker: `give`, `take`, `gone`, `kill`; `_wait` those that answer."""

    _dumps = staticmethod(pickle.dumps)

    def __init__(self, jobs: int, time_limit: float | None):
        if jobs < 1 or (time_limit is not None and time_limit <= 0):
            raise ValueError(
                f"{jobs} workers with a limit of {time_limit} s per clip cannot do anything; give --jobs of at least 1 "
                "and --time-limit above 0"
            )
        self._jobs, self._time_limit, self._workers = jobs, time_limit, []

    def __enter__(self) -> "_Pool":
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
                    except _Died:
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
            _Pool.__exit__(self)


def _patience(under_way: dict) -> float | None:
    """Seconds until the first item under way is overdue; None without limit."""
    due = [due for _, due in under_way.values() if due]
    return max(0.0, min(due) - time.monotonic()) if due else None


# ---------------------------------------------------------------- processes of this machine


class Local(_Pool):
    """A pool of processes. One that dies or takes longer than `time_limit` seconds costs its item and is replaced."""

    def _start(self, task: bytes) -> "_Process":
        return _Process(task)

    def _wait(self, workers: list["_Process"], timeout: float | None) -> list["_Process"]:
        ready = multiprocessing.connection.wait([worker.pipe for worker in workers], timeout)
        return [worker for worker in workers if worker.pipe in ready]


class _Process:
    def __init__(self, task: bytes):
        context = multiprocessing.get_context("spawn")  # a fork would copy the state of libraries' threads
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, task), daemon=True)
        # Ctrl-C reaches every process of the terminal: workers start with it blocked, and end when we end them. The
        # tracker that the first of them would start lifts the block again.
        multiprocessing.resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        theirs.close()  # so that its end is seen here as the end of the pipe

    def gone(self) -> bool:
        return not self._process.is_alive()

    def give(self, item: Any) -> None:
        with contextlib.suppress(BrokenPipeError):  # it died just now: `take` will say so
            self.pipe.send(item)

    def take(self) -> Any:
        try:
            return pickle.loads(self.pipe.recv_bytes())
        except (EOFError, OSError) as error:
            raise _Died from error

    def kill(self) -> None:
        self._process.kill()
        self._process.join()
        self.pipe.close()


def _serve(pipe: multiprocessing.connection.Connection, task: bytes) -> None:
    """A worker's life: the task once, then items until the other side is gone. None means ready."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        task = pickle.loads(task)
        problem = None
    except Exception as error:  # whatever unpickling runs into is told to the parent, which stops
        problem = reason_of(error)
    try:
        pipe.send_bytes(pickle.dumps(problem))
        while problem is None:
            pipe.send_bytes(pickle.dumps(attempt(task, pipe.recv())))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the parent has ended


def _end_with_parent() -> None:
    """Limits are kept by the parent: without it, a worker inside an endless item would never end."""
    multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


# ---------------------------------------------------------------- a Ray cluster


class Ray(_Pool):
    """Ray actors, on the cluster at `address` (or RAY_ADDRESS), else on a Ray of this machine alone.

    `jobs=None`: one for each CPU, or for each share of `gpus`. `gpus`: of each actor; None: 1 where the cluster has
    any, else 0. Media and annotations must lie under the same paths on every machine.
    """

    def __init__(self, jobs: int | None, time_limit: float | None, gpus: float | None = 0, address: str | None = None):
        super().__init__(1 if jobs is None else jobs, time_limit)
        self._all, self._gpus, self._address, self._ours = jobs is None, gpus, address, False

    def __enter__(self) -> "Ray":
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # or it warns of a change in its next release
        try:
            import ray  # an extra, and slow to import
        except ImportError as error:
            raise ValueError("--runner ray needs Ray: pip install -c constraints.txt -e '.[prep,ray]'") from error
        if not ray.is_initialized():
            address = self._address or os.environ.get("RAY_ADDRESS") or "local"
            local = {"include_dashboard": False} if address == "local" else {}
            try:
                ray.init(address=address, log_to_driver=False, logging_level="ERROR", **local)
            except ConnectionError as error:
                raise ValueError(
                    f"no Ray cluster takes us at {address} ({error}); see that it runs, and that RAY_AUTH_MODE and its "
                    "token are the same here and there"
                ) from error
            self._ours = True
        resources = ray.cluster_resources()
        gpus = resources.get("GPU", 0)
        self._gpus = min(1, gpus) if self._gpus is None else self._gpus
        if self._gpus > gpus:
            self.__exit__()
            raise ValueError(f"the Ray cluster has {gpus:g} GPUs, and each worker wants {self._gpus:g}")
        if self._all:
            self._jobs = max(1, int(gpus / self._gpus if self._gpus else resources.get("CPU", 1)))
        return self

    def __exit__(self, *_) -> None:
        import ray

        super().__exit__()
        if self._ours:
            ray.shutdown()

    @staticmethod
    def _dumps(task: Callable) -> bytes:
        import ray

        return ray.cloudpickle.dumps(task)  # also what is defined in the command's own module

    def _start(self, task: bytes) -> "_Actor":
        return _Actor(task, self._gpus)

    def _wait(self, workers: list["_Actor"], timeout: float | None) -> list["_Actor"]:
        import ray

        ready = ray.wait([worker.answer for worker in workers], timeout=timeout)[0] if workers else []
        return [worker for worker in workers if worker.answer in ready]


class _Actor:
    def __init__(self, task: bytes, gpus: float):
        import ray

        # Half a CPU each: actors that take every CPU starve whatever else the cluster runs. SPREAD still gives each
        # machine its share.
        options = {"num_cpus": 0.5, "num_gpus": gpus, "max_restarts": 0, "scheduling_strategy": "SPREAD"}
        self._actor = ray.remote(_Served).options(**options).remote(task)
        self.answer = self._actor.ready.remote()

    def gone(self) -> bool:
        return False  # only its next answer would tell

    def give(self, item: Any) -> None:
        self.answer = self._actor.work.remote(item)

    def take(self) -> Any:
        import ray

        try:
            return ray.get(self.answer)
        except ray.exceptions.RayError as error:  # the actor, its machine or its memory is gone
            raise _Died from error

    def kill(self) -> None:
        import ray

        ray.kill(self._actor)


class _Served:
    """What an actor runs: as `_serve`."""

    def __init__(self, task: bytes):
        try:
            self._task, self._problem = pickle.loads(task), None
        except Exception as error:  # told by `ready`
            self._problem = reason_of(error)

    def ready(self) -> str | None:
        return self._problem

    def work(self, item: Any) -> Any:
        return attempt(self._task, item)


# ---------------------------------------------------------------- the command line


def add_arguments(parser: argparse.ArgumentParser, time_limit: float = 600.0) -> None:
    """--runner, --jobs, --time-limit and --ray-address, for `from_arguments`."""
    group = parser.add_argument_group("where it runs")
    group.add_argument("--runner", choices=("local", "ray"), default="local", help="processes here, or a Ray cluster")
    group.add_argument("--jobs", type=int, help="worker processes (default: one for each CPU)")
    group.add_argument("--time-limit", type=float, default=time_limit, help="seconds for a clip (default: %(default)g)")
    group.add_argument("--ray-address", help="of the cluster (default: RAY_ADDRESS, else a Ray of this machine alone)")


def from_arguments(args: argparse.Namespace, gpus: float | None = 0) -> Local | Ray:
    """The runner that the command line asks for; `gpus` is for Ray. Raises ValueError for numbers that cannot work."""
    if args.runner == "ray":
        return Ray(args.jobs, args.time_limit, gpus, args.ray_address)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Local(cores if args.jobs is None else args.jobs, args.time_limit)
