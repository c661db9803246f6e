"""Where a run may lie, and that one training at a time writes there.

A checkpoint is written into a folder that gets its name when it is whole. So the place of a run must rename folders.
"""

import contextlib
import fcntl
import json
import os
import shutil
import socket
from collections.abc import Iterator

import jax

from save_jax import sharding
from save_jax.data import command_line

LOCK = ".lock"
_PROBE = ".renamed-at-start"


def check_address(workdir: str) -> None:
    """Raises ValueError for the address of an object store."""
    command_line.check_folder("--workdir", workdir, "a run lies")


@contextlib.contextmanager
def alone_in(workdir: str) -> Iterator[None]:
    """Keeps other trainings out of a workdir, which is made if it is not there. All processes of a run enter together.

    The first process holds the lock, and the system releases it however that process ends. Evaluation needs none.

    Raises ValueError, in every process, where another training holds it, or where folders cannot be renamed.
    """
    check_address(workdir)
    with contextlib.ExitStack() as held:
        problem = _enter(held, workdir) if jax.process_index() == 0 else ""
        if sharding.any_process(bool(problem)):
            raise ValueError(problem or f"process 0 cannot train in {workdir}, and says why")
        yield


def _enter(held: contextlib.ExitStack, workdir: str) -> str:
    """Locks and probes the folder: what is wrong with it, or ""."""
    try:
        made = not os.path.isdir(workdir)
        os.makedirs(workdir, exist_ok=True)
        file = os.open(os.path.join(workdir, LOCK), os.O_RDWR | os.O_CREAT, 0o666)
        lock = held.enter_context(os.fdopen(file, "r+"))
    except OSError as error:
        return f"--workdir {workdir} cannot be written ({error.strerror or error}); give another one"
    if made:
        held.callback(_remove_unused, workdir)  # of a start that failed
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        return (
            f"another training is running in {workdir} ({lock.read().strip() or 'it does not say which'}); wait for "
            "it, or give another --workdir"
        )
    except OSError as error:
        print(f"{workdir} has no locks ({error.strerror}): start no second training in it", flush=True)
    else:
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()}")
        lock.flush()
    try:
        _rename_a_folder(workdir)
    except OSError as error:
        return (
            f"{workdir} does not rename folders ({error.strerror or error}), as a mounted bucket; checkpoints need "
            "that: give a --workdir on a disk, and copy it there afterwards"
        )
    return ""


def _rename_a_folder(workdir: str) -> None:
    """What a checkpoint does: a folder is written, gets its name, and is found under it. Raises OSError."""
    before, after = (os.path.join(workdir, f"{_PROBE}-{word}") for word in ("before", "after"))
    for path in (before, after):
        shutil.rmtree(path, ignore_errors=True)
    try:
        os.mkdir(before)
        with open(os.path.join(before, "file"), "w") as file:
            json.dump(os.getpid(), file)
        os.rename(before, after)
        names = os.listdir(workdir)
        if os.path.basename(after) not in names or os.path.basename(before) in names:
            raise OSError("a renamed folder keeps its old name")
        if os.listdir(after) != ["file"]:
            raise OSError("a renamed folder has lost its files")
    finally:
        for path in (before, after):
            shutil.rmtree(path, ignore_errors=True)


def _remove_unused(workdir: str) -> None:
    with contextlib.suppress(OSError):
        if os.listdir(workdir) == [LOCK]:
            os.remove(os.path.join(workdir, LOCK))
            os.rmdir(workdir)
