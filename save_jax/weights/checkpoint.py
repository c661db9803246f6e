"""Orbax checkpoints: parameters, optimiser and input position of a run, of which the last ones and the best are kept.

Parameters are an item of their own, so that evaluation, search and `config.init_from` read nothing else. Every file is
under a checksum; where one is damaged or missing, the next checkpoint that is whole serves, and a line says so.
"""

import contextlib
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax
import orbax.checkpoint as ocp
from absl import logging
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, LatestN, PreservationPolicy

from save_jax import sharding
from save_jax.weights import seals

FOLDER = "checkpoints"  # within a run's workdir
METRIC = "SumR"  # of the validation split: what "best" means
DAMAGED = ".damaged"  # ends the name of a checkpoint that was moved aside


def abstract(tree: object) -> object:
    """Shapes, dtypes and shardings of a tree, without its arrays: what a restore needs to know."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Orbax warns of what is meant to be so, such as a folder that is only read."""
    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(before)


class KeepBest(PreservationPolicy):
    """Orbax's own `BestN` reads every checkpoint's metric at the start, and a damaged one would end the run there."""

    def __init__(self, best: Callable[[], int | None]):
        self._best = best

    def should_preserve(self, checkpoints: Sequence, *, context: object) -> list[bool]:
        """One answer for each checkpoint."""
        best = self._best()
        return [checkpoint.step == best for checkpoint in checkpoints]


class Checkpoints:
    """The checkpoints of a workdir, one a step, written in the background.

    Each has the checksums of its files (`seals`); those of an older version's run, which have none, are taken as they
    are. Of several processes, which all see the folder, every one calls the same methods in the same order; the first
    one looks at the files, decides for all and prints.
    """

    def __init__(self, workdir: str, keep_last: int = 2, read_only: bool = False):
        """Opens the folder; what a killed process left half written is deleted, unless it is only to be read."""
        self._folder = Path(workdir).absolute() / FOLDER
        self._keep_last, self._read_only = max(keep_last, 1), read_only
        self._saving = -1
        if not read_only:
            problem = self._clear() if jax.process_index() == 0 else ""
            if sharding.any_process(bool(problem)):
                raise ValueError(problem or f"process 0 cannot open {self._folder}, and says why")
        self._manager = self._open()
        if jax.process_index() == 0 and not read_only and not self._sealed():
            for step in self._steps():
                seals.write(self._folder / str(step))
        sharding.of_first(0)  # the other processes wait for that
        self._metrics = {step: self._metric(step) for step in self._steps()}

    def _open(self) -> ocp.CheckpointManager:
        with quiet():
            options = ocp.CheckpointManagerOptions(
                best_fn=lambda metrics: metrics[METRIC],  # without it no metrics are written
                preservation_policy=AnyPreservationPolicy([LatestN(self._keep_last), KeepBest(self._best_validated)]),
                lightweight_initialize=True,  # reads no metrics; `_metric` does, after a look at their checksums
                create=not self._read_only,
                read_only=self._read_only,
                async_options=ocp.options.AsyncOptions(post_finalization_callback=self._seal),
            )
            return ocp.CheckpointManager(self._folder, options=options)

    def _clear(self) -> str:
        """Deletes what is half written: what is wrong with it, or ""."""
        # Not by Orbax: its thread outlives the manager, and would delete what the next manager writes or deletes.
        for half_written in self._folder.glob(f"*{ocp.utils.TMP_DIR_SUFFIX}*"):
            try:
                shutil.rmtree(half_written)
            except OSError as error:
                return f"{half_written}, half a checkpoint, cannot be deleted ({error.strerror or error}); delete it"
        return ""

    def _seal(self) -> None:
        # Called in the background by the first process, when all is written and before the folder gets its final name:
        # a folder with that name is sealed, whenever the process is killed.
        seals.write(next(self._folder.glob(f"{self._saving}{ocp.utils.TMP_DIR_SUFFIX}*")))

    def _steps(self) -> list[int]:
        return sorted(int(path.name) for path in self._folder.iterdir() if path.name.isdigit())

    def _sealed(self) -> bool:
        return any((self._folder / str(step) / seals.NAME).exists() for step in self._steps())

    def _problem(self, step: int, items: Sequence[str]) -> str:
        return seals.problem(self._folder / str(step), items) if self._sealed() else ""

    def _metric(self, step: int) -> float:
        """Of the validation at a step; -inf: there was none; inf: damaged, so that it may have been the best."""
        if self._problem(step, ("metrics",)):
            return math.inf
        metrics = self._manager.metrics(step)
        return metrics[METRIC] if metrics else -math.inf

    def _best_validated(self) -> int | None:
        validated = [(metric, step) for step, metric in self._metrics.items() if math.isfinite(metric)]
        return max(validated)[1] if validated else None

    def save(self, step: int, params: dict, optimizer: object, meta: dict, metrics: dict | None = None) -> None:
        """Starts saving, after what is still being saved, and returns once everything is copied to the host.

        Args:
            meta: small JSON.
            metrics: of this step's validation, if there was one.
        """
        if step in self._manager.all_steps():
            return
        items = ocp.args.Composite(
            params=ocp.args.StandardSave(params),
            optimizer=ocp.args.StandardSave(optimizer),
            meta=ocp.args.JsonSave(meta),
        )
        self._manager.wait_until_finished()
        self._saving, self._metrics[step] = step, metrics[METRIC] if metrics else -math.inf
        self._manager.save(step, args=items, metrics=metrics, force=True)

    def latest(self) -> int | None:
        """The newest step, whole or not."""
        step = int(sharding.of_first(max(self._steps(), default=-1)))
        return None if step < 0 else step

    def best(self) -> int:
        """`whole()`: the step that validation picked."""
        return self.whole()

    def whole(self, which: str = "best", items: Sequence[str] = ("params", "metrics"), move: bool = False) -> int:
        """The step with the best validation (the later one of equals; the last where none was validated), or the last.

        Where files of `items` are damaged there, the next one in that order, and a line says which, why and what is
        used instead. With `move` damaged ones are renamed STEP.damaged, so that their steps can be saved again.

        Raises ValueError where no checkpoint is whole; then nothing is moved.
        """
        self._manager.wait_until_finished()
        step, damaged = -1, {}
        if jax.process_index() == 0:
            for candidate in self._order(which):
                if not (problem := self._problem(candidate, items)):
                    step = candidate
                    break
                damaged[candidate] = problem
            if damaged and step >= 0:
                self._tell(which, step, damaged, move)
                for bad in damaged if move else ():
                    aside = self._folder / f"{bad}{DAMAGED}"
                    shutil.rmtree(aside, ignore_errors=True)  # of an earlier time
                    (self._folder / str(bad)).rename(aside)
        step = int(sharding.of_first(step))
        if step < 0:
            damage = "; ".join(f"{bad}: {problem}" for bad, problem in damaged.items())
            raise ValueError(
                f"no checkpoint in {self._folder} is complete{damage and f' ({damage})'}; bring one back from a copy, "
                "or delete that folder and train again"
            )
        return step

    def _order(self, which: str) -> list[int]:
        newest = self._steps()[::-1]
        # Sorting is stable: of equals the later one comes first.
        return newest if which == "last" else sorted(newest, key=lambda step: -self._metrics.get(step, -math.inf))

    def _tell(self, which: str, step: int, damaged: dict[int, str], move: bool) -> None:
        damage = "; ".join(f"checkpoint {bad} is damaged ({problem})" for bad, problem in damaged.items())
        if which == "last":
            lost = max(damaged) - step
            used = f"the one of step {step}: {lost} step{'s are' if lost > 1 else ' is'} lost"
        elif math.isfinite(metric := self._metrics.get(step, -math.inf)):
            used = f"the next best on validation, of step {step} ({METRIC} {metric:.1f})"
        else:
            used = f"the last whole one, of step {step}; it was not validated"
        moved = f" (moved to {', '.join(f'{bad}{DAMAGED}' for bad in damaged)})" if move else ""
        print(f"{self._folder}: {damage}; used instead is {used}{moved}", flush=True)

    def restore(self, step: int, params: dict, optimizer: object) -> tuple[dict, object, dict]:
        """(params, optimizer, meta) of a step. The trees given say shapes, dtypes and shardings."""
        items = ocp.args.Composite(
            params=ocp.args.StandardRestore(abstract(params)),
            optimizer=ocp.args.StandardRestore(abstract(optimizer)),
            meta=ocp.args.JsonRestore(),
        )
        restored = self._manager.restore(step, args=items)
        return restored["params"], restored["optimizer"], restored["meta"]

    def meta(self, step: int) -> dict:
        """What was saved as `meta` with a step."""
        return self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]

    def restore_last(self, params: dict, optimizer: object) -> tuple[int, dict, object, dict]:
        """(step, params, optimizer, meta) of the last whole checkpoint, to go on from; later ones are moved aside.

        Raises ValueError where none is whole.
        """
        step = self.whole("last", ("params", "optimizer", "meta"), move=True)
        if any(later > step for later in self._metrics):
            self._manager.close()  # it would believe that the steps moved aside are saved
            self._manager = self._open()
            self._metrics = {kept: metric for kept, metric in self._metrics.items() if kept <= step}
        return step, *self.restore(step, params, optimizer)

    def restore_params(self, step: int, like: dict) -> dict:
        """The parameters of a step."""
        items = ocp.args.Composite(params=ocp.args.StandardRestore(abstract(like)))
        return self._manager.restore(step, args=items)["params"]

    def close(self) -> None:
        """Waits for what is being written."""
        self._manager.wait_until_finished()
        self._manager.close()
