"""A trained model opened from a run's workdir, from a folder of weights, or from the Hugging Face hub."""

import os
from pathlib import Path

import jax
from jax.sharding import Mesh

from save_jax import sharding
from save_jax.config import model_sizes
from save_jax.data import pipeline
from save_jax.data.tokenizer import Tokenizer
from save_jax.inference import runs
from save_jax.inference.model import Model
from save_jax.models import trees
from save_jax.models.retrieval import Retrieval
from save_jax.training.workdir import check_tokenizer_of
from save_jax.weights import description, hub, loading
from save_jax.weights.checkpoint import FOLDER


def load_model(path: str | os.PathLike, tokenizer: str | None = None, which: str = "best") -> Model:
    """Opens a trained SAVE, AVIGATE or vision model: parameters and tokenizer, no data set needed.

    Args:
        path: a run's workdir, a folder of weights with its description.json, or an address on the Hugging Face hub:
            hf://OWNER/NAME, or hf://OWNER/NAME@REVISION (a branch, tag or commit). With #sha256=DIGEST after it, only
            parameters whose digest (`params_sha256` of description.json) begins so are taken.
        tokenizer: folder or hub name, where the weights brought none.
        which: of a run: "best", the checkpoint with the best validation, or "last".
    Raises:
        ValueError that says what is missing and how to make it: no such folder, no description, only a part of a model,
        damaged parameters, a tokenizer of another vocabulary; no such repository or revision on the hub, or no network
        and nothing in the hub's cache.
    """
    if (address := os.fspath(path)).startswith(hub.SCHEME):
        folder = hub.fetch(address)
        try:
            return _of_folder(folder, tokenizer, sharding.make_mesh())
        except ValueError as error:
            cached = Path(folder).parents[1]
            raise ValueError(f"{address}: {error} (delete {cached} to download it again)") from error
    path = os.path.expanduser(path)
    mesh = sharding.make_mesh()
    if os.path.isdir(os.path.join(path, FOLDER)):
        return _of_run(path, tokenizer, which, mesh)
    if not os.path.isdir(path):
        raise ValueError(
            f"{path} is no folder; give a run's workdir, a folder of weights (save_jax.convert), or hf://OWNER/NAME"
        )
    return _of_folder(path, tokenizer, mesh)


def _of_folder(path: str, tokenizer: str | None, mesh: Mesh) -> Model:
    about = description.read(path)
    module = Retrieval(model_sizes(about.config))
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), module.example(about.config))["params"])
    if missing := sorted(shapes.keys() - set(about.modules)):
        raise ValueError(
            f"{path} holds {', '.join(about.modules)}, and {about.method} also has {', '.join(missing)}: weights to "
            f"start training from (config.init_from={path}), not a model to use"
        )
    replicated = sharding.replicated(mesh)
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated), shapes)
    params = loading.load_params(path, like)
    if trees.digest(jax.device_get(params)) != about.params_sha256:
        raise ValueError(f"{path} holds other parameters than its {description.NAME} says: damaged, or exchanged")
    return Model(about.config, params, about.open_tokenizer(tokenizer), mesh)


def _of_run(workdir: str, given: str | None, which: str, mesh: Mesh) -> Model:
    config = runs.read_config(workdir, needs_shards=False)
    runs.check_retrieval(config, workdir)
    copy = os.path.join(workdir, description.TOKENIZER)
    source = given or (copy if os.path.isdir(copy) else pipeline.tokenizer_source(config))
    if not given and config.data.tokenizer == "data" and not os.path.isdir(source):
        raise ValueError(
            f"the tokenizer of {workdir} lies with its shards in {config.data_dir}, which are not here; pass "
            f"tokenizer=FOLDER, or copy it to {os.path.join(workdir, description.TOKENIZER)}"
        )
    tokenizer = Tokenizer(source)
    check_tokenizer_of(tokenizer, workdir)
    checkpoint = runs.restore(Retrieval(model_sizes(config)), config, workdir, mesh, which)
    return Model(config, checkpoint.params, tokenizer, mesh)
