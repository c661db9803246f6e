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
        items = ocp.args.Composite(params=ocp.args.StandardRestore(abstract(like)))
        return self._manager.restore(step, args=items)["params"]

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


def _folder(path: str) -> str:
    """The folder of parameters that a user means: itself, or that of a workdir's best checkpoint."""
    path = os.path.abspath(path)
    if os.path.isdir(os.path.join(path, FOLDER)):
        checkpoints = Checkpoints(path)
        step = checkpoints.best()
        checkpoints.close()
        path = os.path.join(path, FOLDER, str(step), "params")
    if not os.path.isdir(path):
        raise ValueError(f"no checkpoint at {path}; give a run's workdir or a folder of converted parameters")
    return path


def _shapes(tree: Mapping) -> dict[str, list[int]]:
    return {name: list(x.shape) for name, x in flatten_dict(tree, sep="/").items()}


def _differences(theirs: dict[str, list[int]], ours: dict[str, list[int]]) -> list[str]:
    return [
        f"{name}: {theirs.get(name, 'absent')} there, {ours.get(name, 'absent')} in this model"
        for name in sorted(theirs.keys() | ours.keys())
        if theirs.get(name) != ours.get(name)
    ]


def load_params(path: str, like: dict) -> dict:
    """Parameters out of a workdir (of its best checkpoint) or out of a folder of parameters alone.

    Raises ValueError that lists every parameter missing there, unknown here, or of another shape.
    """
    path = _folder(path)
    with ocp.StandardCheckpointer() as checkpointer:
        problems = _differences(_shapes(checkpointer.metadata(path).item_metadata.tree), _shapes(like))
        if problems:
            raise ValueError(f"{path} does not fit this model (config.model):\n  " + "\n  ".join(problems))
        return checkpointer.restore(path, abstract(like))


def load_modules(paths: str, like: dict) -> dict[str, dict]:
    """Modules (top-level names: vision, text, ast, …) out of one checkpoint or several separated by commas.

    A checkpoint fills a module wholly or leaves it alone, as converted CLIP weights leave everything but CLIP's towers.
    Prints where each module comes from and which ones are new.

    Raises ValueError that lists, for all checkpoints, every parameter unknown here, of another shape, missing in a
    module that is partly there, or given twice.
    """
    found, origin, problems = {}, {}, []
    with ocp.StandardCheckpointer() as checkpointer:
        for path in map(_folder, paths.split(",")):
            stored = checkpointer.metadata(path).item_metadata.tree
            ours = {module: like[module] for module in stored if module in like}
            problems += [f"{path}: {line}" for line in _differences(_shapes(stored), _shapes(ours))]
            problems += [f"{path}: {module} is in {origin[module]} too" for module in stored if module in origin]
            if not problems:
                found |= checkpointer.restore(path, abstract(ours))
            origin |= dict.fromkeys(stored, path)
    if problems:
        raise ValueError("config.init_from does not fit this model (config.model):\n  " + "\n  ".join(problems))
    for path in dict.fromkeys(origin.values()):
        print(f"from {path}: {', '.join(sorted(module for module in found if origin[module] == path))}")
    if new := sorted(like.keys() - found.keys()):
        print(f"new: {', '.join(new)}")
    return found


def read_params(path: str) -> dict:
    """All parameters of a workdir's best checkpoint or of a folder of parameters, as NumPy arrays."""
    path = _folder(path)
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    with ocp.StandardCheckpointer() as checkpointer:
        stored = checkpointer.metadata(path).item_metadata.tree
        like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), dict(stored))
        return jax.device_get(checkpointer.restore(path, like))
