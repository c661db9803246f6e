"""A pool of processes of this machine."""

import contextlib
import multiprocessing
import multiprocessing.connection
import multiprocessing.resource_tracker
import os
import pickle
import signal
import threading
from typing import Any

from data_prep.runners.base import attempt, reason_of
from data_prep.runners.pool import Died, Pool


class Local(Pool):
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
            raise Died from error

    def kill(self) -> None:
        self._process.kill()
        self._process.join()
        self.pipe.close()


def _serve(pipe: multiprocessing.connection.Connection, data: bytes) -> None:
    """A worker's life: the task once, then items until the other side is gone. None means ready."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        task = pickle.loads(data)
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
    parent = multiprocessing.parent_process()
    assert parent is not None  # this runs in a worker
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)
