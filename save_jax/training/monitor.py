"""The progress line with the time left, and the check that stops a run whose loss goes wrong."""

import collections
import os
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

import jax
import numpy as np
from ml_collections import ConfigDict

from save_jax import sharding
from save_jax.data import files

T = TypeVar("T")


class TrainingError(RuntimeError):
    """The run cannot go on. The message says since which step and what to do. Checkpoints are whole."""


class Progress:
    """The progress line: averages since the last one, and the time left."""

    def __init__(self, config: ConfigDict, start: int, total: int, shown: Sequence[str]):
        self._shown = shown
        self._batch, self._start, self._total = config.batch_size, start, total
        self._begin = self._last = time.monotonic()
        self._last_step, self.waited = start, 0.0

    def line(self, step: int, means: dict[str, float]) -> dict[str, float]:
        """Prints the line of `step` and returns its numbers."""
        now = time.monotonic()
        seconds = now - self._last
        rates = {
            "pairs_per_second": self._batch * (step - self._last_step) / seconds,
            "input_wait": self.waited / seconds,
        }
        left = (now - self._begin) / (step - self._start) * (self._total - step)
        parts = " ".join(f"{name} {means[name]:.3f}" for name in self._shown if name in means)
        sharding.say(
            f"step {step}/{self._total}  {parts}  {rates['pairs_per_second']:.0f} pairs/s  "
            f"input {rates['input_wait']:.0%}  {int(left) // 60}:{int(left) % 60:02d} left"
        )
        self._last, self._last_step, self.waited = now, step, 0.0
        return rates

    def wait_for(self, batches: Iterator[T]) -> T:
        """The next batch. The time that it takes counts as waiting for input."""
        begin = time.monotonic()
        batch = next(batches)
        self.waited += time.monotonic() - begin
        return batch

    def leave_out(self) -> None:
        """Leaves the time since the last line (validating, saving) out of the rates and of the time left."""
        now = time.monotonic()
        self._begin, self._last, self.waited = self._begin + now - self._last, now, 0.0


class Watch:
    """Checks the numbers of every step once they are fetched, and stops a run that has gone wrong."""

    def __init__(self, config: ConfigDict, ids: list[str], workdir: str):
        self._limit, self._ids, self._workdir = config.spike, ids, workdir
        self._losses = collections.deque(maxlen=100)

    def means(self, rows: list[dict], first_step: int) -> dict[str, float]:
        """Means of the fetched metrics of some steps.

        Raises TrainingError for a loss or gradient that is not finite. After at least 20 steps it also raises it for a
        loss above config.spike and above config.spike times the median of the last 100 steps. The message names a file
        with the clips of that batch.
        """
        rows = jax.device_get(rows)
        for step, row in enumerate(rows, first_step):
            usual = float(np.median(self._losses)) if len(self._losses) >= 20 else np.inf
            if not np.isfinite(row["loss"]) or not np.isfinite(row["grad_norm"]):
                self._stop(step, row, "is not finite")
            if self._limit and row["loss"] > self._limit * max(usual, 1.0):
                self._stop(step, row, f"is more than config.spike={self._limit:g} times the usual {usual:.3g}")
            self._losses.append(float(row["loss"]))
        return {name: float(np.mean([row[name] for row in rows])) for name in rows[0] if name not in ("clip", "stop")}

    def _stop(self, step: int, row: dict, what: str) -> None:
        path = os.path.join(self._workdir, f"bad-step-{step}.json")
        clips = [self._ids[number] for number in row["clip"]]
        numbers = {name: float(x) for name, x in row.items() if name not in ("clip", "stop")}
        if jax.process_index() == 0:
            files.write_json(path, {"step": step, "what": f"loss or gradient norm {what}", **numbers, "clips": clips})
        raise TrainingError(
            f"step {step}: loss {numbers['loss']:.4g}, gradient norm {numbers['grad_norm']:.4g}: one of them {what}; "
            f"clips begin with {', '.join(clips[:4])}, all are in {path}. Nothing was saved since the last checkpoint. "
            "Look at these clips; lower config.optim.learning_rate in another --workdir, or raise config.spike here."
        )
