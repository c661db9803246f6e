"""Loader processes of grain. They do not import the running program, and they end with it."""

import atexit
import contextlib
import multiprocessing
import multiprocessing.connection
import multiprocessing.util
import os
import queue
import shutil
import signal
import sys
import threading
import types
from collections.abc import Generator, Iterator
from typing import Any

import grain
from absl import flags

_PATIENCE = 10  # seconds in which grain closes, before its processes are killed
_SHARED = "/dev/shm"  # where arrays pass from process to process on Linux


def iterate(batches: grain.MapDataset, workers: int, ahead: int, batch_bytes: int) -> Generator[Any]:
    """The batches in their order, made by `workers` processes. These start when the first batch is requested.

    Args:
        ahead: batches made ahead, over all processes; each makes at least one.
        batch_bytes: size of a batch, to check that they fit into the shared memory.
    Returns:
        An iterator. Closing it ends the processes.
    Raises:
        ValueError if the shared memory is too small.
    """
    each = max(1, ahead // workers)
    _check_shared_memory(workers, each, batch_bytes)
    if not flags.FLAGS.is_parsed():  # notebooks and scripts: grain reads its own flags
        flags.FLAGS.mark_as_parsed()
    dataset = batches.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=1)).mp_prefetch(
        grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=each), worker_init_fn=_settle
    )
    return _from_workers(iter(dataset), workers)


def _from_workers(iterator: grain.DatasetIterator, workers: int) -> Generator[Any]:
    """The batches, read from grain by a thread of its own, one for each request.

    Ctrl-C comes to the main thread. In the midst of grain's queues it would leave a lock that nobody opens again, and
    closing would wait for it for ever. A SimpleQueue has no such lock. Nor does the program's end wait for grain for
    ever: Python would wait for these processes, which ignore its SIGTERM and wait for its end.
    """
    before, own = set(multiprocessing.active_children()), set[Any]()  # processes; `own`, once all of them are there
    at_the_end = sys.is_finalizing  # in this frame: modules may be gone then
    requests: queue.SimpleQueue[bool] = queue.SimpleQueue()  # True for another batch, False to close
    answers: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

    def answer() -> None:
        batches = _started(iterator, workers, own)
        while requests.get():
            try:
                answers.put((next(batches), None))
            except BaseException as error:
                answers.put((None, error))
        iterator.close()

    def leave() -> None:
        requests.put(False)
        thread.join(_PATIENCE)
        if thread.is_alive():
            killed = own or set(multiprocessing.active_children()) - before
            for process in killed:
                process.kill()
            _cancel_closing(killed)

    thread = threading.Thread(target=answer, name="loader", daemon=True)
    thread.start()
    atexit.register(leave)
    try:
        while True:
            requests.put(True)
            batch, error = answers.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield batch
            del batch
    finally:
        if not at_the_end():  # no thread runs any more, and `leave` ran at exit
            leave()
            atexit.unregister(leave)


def _cancel_closing(killed: set[Any]) -> None:
    """Of iterators whose process was killed, perhaps while it held the lock that closing them takes.

    Grain closes all of its iterators once more at the program's end, in the main thread, where nothing would end the
    wait. Those of other loaders are still closed.
    """
    registered: dict[Any, Any] = getattr(multiprocessing.util, "_finalizer_registry")  # noqa: B009  # not public
    for finalizer in list(registered.values()):
        if (getattr(finalizer._callback, "__module__", None) or "").startswith("grain."):
            reference, *_ = finalizer._args
            if getattr(reference(), "_prefetch_process", None) in killed:
                finalizer.cancel()


def _started(iterator: grain.DatasetIterator, workers: int, own: set[Any]) -> Iterator[Any]:
    """The batches; the processes that make them are put into `own` when all of them are started."""
    before = set(multiprocessing.active_children())
    with _no_main():
        first = [next(iterator) for _ in range(workers)]  # one of each process
    own |= set(multiprocessing.active_children()) - before
    yield from first
    del first
    yield from iterator


@contextlib.contextmanager
def _no_main() -> Iterator[None]:
    """Processes that start within do not import the running program: no models, no optimiser, no plots.

    And a script without `if __name__ == "__main__"` does not start itself again in each of them.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _settle(worker: int, workers: int) -> None:
    """Runs first in a loader process. It ignores signals, which the parent handles, and it ends with the parent.

    Ctrl-C and a scheduler's SIGTERM reach all processes of the group. The parent needs batches until it has saved.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

    parent = multiprocessing.parent_process()
    assert parent is not None, "not in a loader process"

    def leave_with_parent() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=leave_with_parent, daemon=True).start()


def _check_shared_memory(workers: int, each: int, batch_bytes: int) -> None:
    """Raises ValueError if the batches would not fit: a process that writes beyond the end is killed."""
    if os.path.isdir(_SHARED):
        # Each process: those that wait in two queues, and one between them. And three that the loop holds.
        need, free = (workers * (2 * each + 1) + 3) * batch_bytes, shutil.disk_usage(_SHARED).free
        if need > free:
            raise ValueError(
                f"config.data.workers={workers} with config.data.prefetch needs up to {need / 2**30:.1f} GiB of shared "
                f"memory, {_SHARED} has {free / 2**30:.1f} GiB free; lower them, use threads (config.data.workers=0), "
                "or give the container more (docker run --shm-size)"
            )
