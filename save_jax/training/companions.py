"""Several processes of one run end together: the error of one is said by all.

A process that waits for another in a collective operation waits for ever, or until JAX aborts it. So the one that fails
leaves a file in the run's folder, which all see, and a thread of every other process looks for it.
"""

import contextlib
import glob
import os
import sys
import threading
import time
from typing import NoReturn

import jax
import numpy as np

from save_jax import sharding

_NAME = ".failed-"
POLL, LINGER = 0.5, 3.0  # seconds: between looks; how long the one that failed waits, so that all can look


class Companions:
    """The other processes of this run. Of a run of one process it does nothing."""

    def __init__(self, workdir: str):
        """All processes must come here together; the first one clears up after earlier runs."""
        self._ending, self._path = threading.Lock(), ""
        if jax.process_count() == 1:
            return
        if jax.process_index() == 0:
            for left in glob.glob(os.path.join(glob.escape(workdir), f"{_NAME}*")):
                with contextlib.suppress(OSError):
                    os.remove(left)
        # A number of this run alone: below 2^24, so that float32 holds it.
        run = int(sharding.of_first(int(np.random.default_rng().integers(1 << 24))))
        self._path = os.path.join(workdir, f"{_NAME}{run}")
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while not (said := self._said()):
            time.sleep(POLL)
        self._end(said)

    def _said(self) -> str:
        try:
            with open(self._path, encoding="utf-8") as file:
                return file.read().strip()
        except OSError:
            return ""

    def fail(self, error: str) -> NoReturn:
        """Says an error here and in the other processes, and ends this one."""
        if not self._path:
            sys.exit(f"error: {error}")
        self._alone()
        print(f"error: {error}", file=sys.stderr, flush=True)
        if not self._said():  # all may fail alike
            with contextlib.suppress(OSError):  # no folder that all see: JAX notices, a minute or two later
                os.makedirs(os.path.dirname(self._path), exist_ok=True)
                temporary = f"{self._path}.{jax.process_index()}"
                with open(temporary, "w", encoding="utf-8") as file:
                    file.write(f"process {jax.process_index()} has ended: {error}")
                os.replace(temporary, self._path)
        time.sleep(LINGER * (1 + (jax.process_index() == 0)))  # as below, the first process ends last
        os._exit(1)  # an orderly exit would wait for the others

    def _alone(self) -> None:
        """The first thread to come here ends the process; another one waits for that."""
        self._ending.acquire()

    def lost(self, error: str) -> NoReturn:
        """Ends after a collective operation failed: with what another process said, or else with `error`."""
        until = time.monotonic() + LINGER
        while not (said := self._said()) and time.monotonic() < until:
            time.sleep(POLL)
        self._end(said or error)

    def _end(self, text: str) -> NoReturn:
        self._alone()
        again = "start all again with the same command: they go on from the last checkpoint"
        print(f"error: {text}; {again}", file=sys.stderr, flush=True)
        if jax.process_index() == 0:
            time.sleep(2 * LINGER)  # JAX aborts whoever is left behind by the first process
        os._exit(1)  # an orderly exit would wait for the one that is gone
