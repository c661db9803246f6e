"""A run that is killed with SIGKILL again and again: for the test, which does it a few times, and for the bench."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from helpers.places import COMPILE_FASTEST, REPOSITORY

STEPS = 40
ENVIRONMENT = os.environ | {"XLA_FLAGS": COMPILE_FASTEST}  # one device: its program compiles sooner
MOMENTS = ("starting", "step", "writing", "written")


class Kill(NamedTuple):
    """One process of a run, and how it was ended."""

    moment: str
    resumed: int | None  # step that it went on from; None: it had not come so far
    reached: int  # last step that it had printed; 0: none
    unfinished: list[int]  # steps of checkpoints left half written
    ended: bool  # it was done before the moment came


def command(workdir: Path, shards: Path) -> list[str]:
    """Forty small steps, a checkpoint every 5, a validation every 20."""
    return [
        sys.executable, "-m", "save_jax.main", "--config=configs/demo.py:smoke", f"--workdir={workdir}",
        f"--config.data_dir={shards}", f"--config.steps={STEPS}", "--config.eval_every=20", "--config.log_every=1",
        "--config.checkpoint_every=5", "--config.model.image_size=32", "--config.model.patch_size=16",
        "--config.data.tokenizer=data", "--config.model.vocab_size=600", "--config.evaluation.without_modalities=False",
    ]  # fmt: skip


def finish(workdir: Path, shards: Path) -> tuple[dict, str]:
    """Lets a run come to its end: (results.json, what it printed)."""
    done = subprocess.run(command(workdir, shards), cwd=REPOSITORY, env=ENVIRONMENT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the run ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return json.loads((workdir / "results.json").read_text()), done.stdout


def kills(workdir: Path, shards: Path, moments: list[str], rng: random.Random) -> Iterator[Kill]:
    """Starts the run and kills it, once for each moment of MOMENTS; ends early where the run does."""
    log = workdir.parent / f"{workdir.name}.log"
    for moment in moments:
        begun = max(whole(workdir), default=0)
        with log.open("w") as out:
            process = subprocess.Popen(
                command(workdir, shards), cwd=REPOSITORY, env=ENVIRONMENT, stdout=out, stderr=subprocess.STDOUT
            )
        come = _come(moment, workdir, log, begun, rng)
        while process.poll() is None and not come():
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        ended = process.wait() != -signal.SIGKILL
        if ended and process.returncode:
            raise RuntimeError(f"the run ended with {process.returncode}:\n{log.read_text()}")
        yield Kill(moment, _resumed(log), _reached(log), unfinished(workdir), ended)
        if ended:
            return


def whole(workdir: Path) -> list[int]:
    """The steps of a run's checkpoints, rising."""
    return sorted(int(path.name) for path in (workdir / "checkpoints").glob("*") if path.name.isdigit())


def unfinished(workdir: Path) -> list[int]:
    """The steps of checkpoints that are being written, or were when the process was killed."""
    return sorted(int(path.name.split(".")[0]) for path in (workdir / "checkpoints").glob("*.orbax-checkpoint-tmp*"))


def _resumed(log: Path) -> int | None:
    said = log.read_text()
    if found := re.search(r"continuing .* at step (\d+) ", said):
        return int(found[1])
    return STEPS if "is trained: evaluating" in said else 0 if _reached(log) else None


def _reached(log: Path) -> int:
    return max(map(int, re.findall(r"^step (\d+)/", log.read_text(), re.MULTILINE)), default=0)


def _come(moment: str, workdir: Path, log: Path, begun: int, rng: random.Random) -> Callable[[], bool]:
    """Whether a moment has come. Which step, which checkpoint or how many seconds it takes is drawn here."""
    if moment == "starting":
        end = time.monotonic() + rng.uniform(0, 8)
        return lambda: time.monotonic() > end
    if moment == "step":
        step = rng.randint(begun + 1, STEPS)
        return lambda: _reached(log) >= step
    step = min(begun - begun % 5 + 5 * rng.randint(1, 2), STEPS)
    if moment == "written":
        return lambda: bool(whole(workdir)) and whole(workdir)[-1] >= step
    # What an earlier process left half written is gone by the time that this step is reached.
    return lambda: _reached(log) >= step and bool(unfinished(workdir))
