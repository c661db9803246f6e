"""A trained model opened from a run's workdir or from a folder of weights."""

import os

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from save_jax import sharding
from save_jax.config import model_sizes
from save_jax.data import pipeline
from save_jax.data.tokenizer import Tokenizer
from save_jax.inference import runs
from save_jax.inference.model import Model
from save_jax.models.retrieval import Retrieval
from save_jax.weights import description, loading
from save_jax.weights.checkpoint import FOLDER


def load_model(path: str | os.PathLike) -> Model:
    """Opens a trained SAVE, AVIGATE or vision model: parameters and tokenizer, no data set needed.

    Args:
        path: a run's workdir (its best checkpoint), or a folder of weights with its description.json.
    Raises:
        ValueError that says what is missing and how to make it: no such folder, no description, only a part of a model,
        a tokenizer of another vocabulary.
    """
    path = os.fspath(path)
    mesh = sharding.make_mesh()
    if os.path.isdir(os.path.join(path, FOLDER)):
        return _of_run(path, mesh)
    if not os.path.isdir(path):
        raise ValueError(f"{path} is no folder; give a run's workdir or a folder of weights (save_jax.convert)")
    about = description.read(path)
    if missing := sorted(description.needed_modules(about.config) - set(about.modules)):
        raise ValueError(
            f"{path} holds {', '.join(about.modules)}, and {about.method} also has {', '.join(missing)}: weights to "
            f"start training from (config.init_from={path}), not a model to use"
        )
    return Model(about.config, _restore(path, about.config, mesh), about.open_tokenizer(), mesh)


def _of_run(workdir: str, mesh: Mesh) -> Model:
    config = runs.read_config(workdir, needs_shards=False)
    runs.check_retrieval(config, workdir)
    copy = os.path.join(workdir, description.TOKENIZER)
    source = copy if os.path.isdir(copy) else pipeline.tokenizer_source(config)
    checkpoint = runs.restore(Retrieval(model_sizes(config)), config, workdir, mesh)
    return Model(config, checkpoint.params, Tokenizer(source), mesh)


def _restore(path: str, config: ConfigDict, mesh: Mesh) -> dict:
    module = Retrieval(model_sizes(config))
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), module.example(config))["params"])
    replicated = sharding.replicated(mesh)
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated), shapes)
    return loading.load_params(path, like)
