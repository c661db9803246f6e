"""Orbax checkpoints: parameters, optimiser and input position of a run, of which the last ones and the best are kept.

Parameters are an item of their own, so that evaluation, search and `config.init_from` read nothing else.
"""

import os
from collections.abc import Mapping

import jax
import orbax.checkpoint as ocp
from flax.traverse_util import flatten_dict
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

FOLDER = "checkpoints"  # within a run's workdir
METRIC = "SumR"  # of the validation split: what "best" means


def _metric(metrics: Mapping[str, float]) -> float:
    return metrics[METRIC]


def abstract(tree: object) -> object:
    """Shapes, dtypes and shardings of a tree, without its arrays: what a restore needs to know."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)


class Checkpoints:
    """The checkpoints of a workdir, one a step, written in the background."""

    def __init__(self, workdir: str, keep_last: int = 1):
        # best_fn beside the policy: without it no metrics are written, and after a restart the best one is deleted.
        options = ocp.CheckpointManagerOptions(
            best_fn=_metric,
            best_mode="max",
            preservation_policy=AnyPreservationPolicy(
                [
                    LatestN(max(keep_last, 1)),
                    BestN(get_metric_fn=_metric, n=1, keep_checkpoints_without_metrics=False),
                ]
            ),
        )
        self._manager = ocp.CheckpointManager(os.path.abspath(os.path.join(workdir, FOLDER)), options=options)

    def save(self, step: int, params: dict, optimizer: object, meta: dict, metrics: dict | None = None) -> None:
        """Starts saving. `meta` is small JSON; `metrics` come from this step's validation, if there was one."""
        if step in self._manager.all_steps():
            return
        items = ocp.args.Composite(
            params=ocp.args.StandardSave(params),
            optimizer=ocp.args.StandardSave(optimizer),
            meta=ocp.args.JsonSave(meta),
        )
        self._manager.save(step, args=items, metrics=metrics, force=True)

    def restore(self, step: int, params: dict, optimizer: object) -> tuple[dict, object, dict]:
        """(params, optimizer, meta) of a step. The trees given say shapes, dtypes and shardings."""
        items = ocp.args.Composite(
            params=ocp.args.StandardRestore(abstract(params)),
            optimizer=ocp.args.StandardRestore(abstract(optimizer)),
            meta=ocp.args.JsonRestore(),
        )
        restored = self._manager.restore(step, args=items)
        return restored["params"], restored["optimizer"], restored["meta"]

    def latest(self) -> int | None:
        return self._manager.latest_step()

    def best(self) -> int | None:
        """The step with the best validation; the latest where nothing was validated."""
        best = self._manager.best_step()
        return self.latest() if best is None else best

    def restore_params(self, step: int, like: dict) -> dict:
        """The parameters of a step."""
        self._manager.wait_until_finished()
        return load_params(str(self._manager.directory / str(step) / "params"), like)

    def close(self) -> None:
        """Waits for what is being written."""
        self._manager.wait_until_finished()
        self._manager.close()


def save_params(path: str, params: dict) -> None:
    """Writes parameters alone, as `config.init_from` takes them. Raises ValueError where something is already."""
    if os.path.exists(path):
        raise ValueError(f"{path} exists already; choose another folder or delete it")
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(os.path.abspath(path), params)


def load_params(path: str, like: dict) -> dict:
    """Parameters out of a workdir (of its best checkpoint) or out of a folder of parameters alone.

    Raises ValueError that lists every parameter missing there, unknown here, or of another shape.
    """
    path = os.path.abspath(path)
    if os.path.isdir(os.path.join(path, FOLDER)):
        checkpoints = Checkpoints(path)
        step = checkpoints.best()
        checkpoints.close()
        path = os.path.join(path, FOLDER, str(step), "params")
    if not os.path.isdir(path):
        raise ValueError(f"no checkpoint at {path}; give a run's workdir or a folder of converted parameters")
    with ocp.StandardCheckpointer() as checkpointer:
        stored = checkpointer.metadata(path).item_metadata.tree
        theirs = {name: list(x.shape) for name, x in flatten_dict(stored, sep="/").items()}
        ours = {name: list(x.shape) for name, x in flatten_dict(like, sep="/").items()}
        problems = [
            f"{name}: {theirs.get(name, 'absent')} there, {ours.get(name, 'absent')} in this model"
            for name in sorted(theirs.keys() | ours.keys())
            if theirs.get(name) != ours.get(name)
        ]
        if problems:
            raise ValueError(f"{path} does not fit this model (config.model):\n  " + "\n  ".join(problems))
        return checkpointer.restore(path, abstract(like))
