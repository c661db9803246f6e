"""Parameters out of checkpoints and folders: a whole model, or modules of one, for a run to start from.

A folder of parameters holds Orbax's files, or one file of safetensors, which is the form for a hub.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax.traverse_util import unflatten_dict
from ml_collections import ConfigDict

from save_jax.config import model_sizes
from save_jax.config.retrieval import start_paths
from save_jax.models.retrieval import Retrieval
from save_jax.models.trees import flatten, unflatten
from save_jax.weights import description, seals
from save_jax.weights import files as weight_files
from save_jax.weights.checkpoint import FOLDER, Checkpoints, abstract, quiet

ORBAX = "_METADATA"  # Orbax writes it with every folder of parameters
FILE = "model.safetensors"  # beside a description: all parameters, by our names. Without one it is of other code


def save_params(path: str, params: dict) -> None:
    """Writes parameters alone, as `config.init_from` takes them. Raises ValueError where something is already."""
    if os.path.exists(path):
        raise ValueError(f"{path} exists already; choose another folder or delete it")
    with quiet(), ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(os.path.abspath(path), params)


def save_file(folder: str, params: dict) -> str:
    """Writes parameters as one file into a folder, which needs a description as well; returns the file's path."""
    path = os.path.join(folder, FILE)
    weight_files.write(path, {name: np.asarray(x) for name, x in flatten(params).items()})
    return path


def _is_file(folder: str) -> bool:
    """Whether a folder holds the parameters as one file of ours, and not as Orbax's."""
    there = {name for name in (FILE, description.NAME, ORBAX) if os.path.exists(os.path.join(folder, name))}
    return there == {FILE, description.NAME}


def _folder(path: str) -> str:
    """The folder of parameters that a user means: itself, or that of a workdir's best checkpoint that is whole."""
    path = os.path.abspath(path)
    if os.path.isdir(os.path.join(path, FOLDER)):
        checkpoints = Checkpoints(path, read_only=True)
        try:
            return os.path.join(path, FOLDER, str(checkpoints.whole()), "params")
        finally:
            checkpoints.close()
    if not os.path.isdir(path):
        raise ValueError(f"no checkpoint at {path}; give a run's workdir or a folder of converted parameters")
    if _is_file(path):
        return path
    if not os.path.exists(os.path.join(path, ORBAX)):
        raise ValueError(f"{path} is no checkpoint: {_what_it_is(path)}")
    step, item = Path(path).parent, Path(path).name
    if (step / seals.NAME).exists() and (problem := seals.problem(step, (item,))):
        raise ValueError(f"checkpoint {step} is damaged ({problem}); choose another one")
    return path


def _what_it_is(path: str) -> str:
    """In words, with what to do, for a folder that Orbax did not write."""
    names = sorted(os.listdir(path))
    if not names:
        return "the folder is empty; give a run's workdir or a folder that save_jax.convert wrote"
    if weights := [name for name in names if name.endswith((".safetensors", ".bin", ".pt", ".pth"))]:
        return (
            f"it holds a weight file of other code ({weights[0]}); convert that first: python -m save_jax.convert "
            f"--from {os.path.join(path, weights[0])} --kind KIND --to FOLDER"
        )
    if os.path.exists(os.path.join(path, "params", ORBAX)):
        return f"it is one step of a run; give {os.path.join(path, 'params')}, or the run's workdir"
    if "metrics.jsonl" in names:
        return "it is the workdir of a run that saved none; train on, or give another one"
    return f"it holds {', '.join(names[:3])}; give a run's workdir or a folder that save_jax.convert wrote"


def _stored(checkpointer: ocp.StandardCheckpointer, path: str) -> dict[str, list[int]]:
    """Names and shapes of the parameters in a folder."""
    if _is_file(path):
        return weight_files.shapes(os.path.join(path, FILE))
    return _shapes(checkpointer.metadata(path).item_metadata.tree)


def _restore(checkpointer: ocp.StandardCheckpointer, path: str, like: dict) -> dict:
    """The parameters in a folder, which are those of `like`, in its dtypes and shardings."""
    if not _is_file(path):
        return checkpointer.restore(path, abstract(like))
    arrays = weight_files.read(os.path.join(path, FILE))
    return unflatten({name: _place(arrays[name], x) for name, x in flatten(like).items()})


def _place(array: np.ndarray, like: jax.Array) -> jax.Array:
    """An array on the devices where `like` is; each takes what is its own."""
    return jax.make_array_from_callback(like.shape, like.sharding, lambda index: array[index].astype(like.dtype))


def _modules(names: Iterable[str]) -> list[str]:
    """Top-level names, each once."""
    return list(dict.fromkeys(name.split("/")[0] for name in names))


def _shapes(tree: Mapping) -> dict[str, list[int]]:
    return {name: list(x.shape) for name, x in flatten(tree).items()}


def _differences(theirs: dict[str, list[int]], ours: dict[str, list[int]]) -> list[str]:
    return [
        f"{name}: {theirs.get(name, 'absent')} there, {ours.get(name, 'absent')} in this model"
        for name in sorted(theirs.keys() | ours.keys())
        if theirs.get(name) != ours.get(name)
    ]


def check_fits(params: dict, config: ConfigDict, where: str) -> None:
    """Raises ValueError that lists every parameter in `where` that a model of this config has not, or otherwise."""
    model = Retrieval(model_sizes(config))
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), model.example(config))["params"])
    ours = {module: shapes[module] for module in params if module in shapes}
    if problems := _differences(_shapes(params), _shapes(ours)):
        raise ValueError(f"{where} does not fit config.model:\n  " + "\n  ".join(problems))


def load_params(path: str, like: dict) -> dict:
    """Parameters out of a workdir (of its best checkpoint) or out of a folder of parameters alone.

    Raises ValueError that lists every parameter missing there, unknown here, or of another shape.
    """
    path = _folder(path)
    with quiet(), ocp.StandardCheckpointer() as checkpointer:
        problems = _differences(_stored(checkpointer, path), _shapes(like))
        if problems:
            raise ValueError(f"{path} does not fit this model (config.model):\n  " + "\n  ".join(problems))
        return _restore(checkpointer, path, like)


def modules_of(paths: str) -> set[str]:
    """Names of the modules in checkpoints, `paths` as of config.init_from."""
    with quiet(), ocp.StandardCheckpointer() as checkpointer:
        stored = [_stored(checkpointer, path) for path in map(_folder, start_paths(paths))]
    return {module for names in stored for module in _modules(names)}


def load_modules(paths: str, like: dict) -> dict[str, dict]:
    """Modules (top-level names: vision, text, ast, …) out of one checkpoint or several separated by commas.

    A checkpoint fills a module wholly or leaves it alone, as converted CLIP weights leave everything but CLIP's towers.
    Prints where each module comes from and which ones are new. No paths, or "random" alone, give no modules.

    Raises ValueError that lists, for all checkpoints, every parameter unknown here, of another shape, missing in a
    module that is partly there, or given twice.
    """
    loaded, origin, problems = {}, {}, []
    if not start_paths(paths):
        return loaded
    with quiet(), ocp.StandardCheckpointer() as checkpointer:
        for path in map(_folder, start_paths(paths)):
            stored = _stored(checkpointer, path)
            modules = _modules(stored)
            ours = {module: like[module] for module in modules if module in like}
            problems += [f"{path}: {line}" for line in _differences(stored, _shapes(ours))]
            problems += [f"{path}: {module} is in {origin[module]} too" for module in modules if module in origin]
            if not problems:
                loaded |= _restore(checkpointer, path, ours)
            origin |= dict.fromkeys(modules, path)
    if problems:
        raise ValueError("config.init_from does not fit this model (config.model):\n  " + "\n  ".join(problems))
    for path in dict.fromkeys(origin.values()):
        print(f"from {path}: {', '.join(sorted(module for module in loaded if origin[module] == path))}")
    if new := sorted(like.keys() - loaded.keys()):
        print(f"new: {', '.join(new)}")
    return loaded


def read_params(path: str) -> dict:
    """All parameters of a workdir's best checkpoint or of a folder of parameters, as NumPy arrays."""
    path = _folder(path)
    if _is_file(path):
        return unflatten_dict(weight_files.read(os.path.join(path, FILE)), sep="/")
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    with quiet(), ocp.StandardCheckpointer() as checkpointer:
        stored = checkpointer.metadata(path).item_metadata.tree
        like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), dict(stored))
        return jax.device_get(checkpointer.restore(path, like))
