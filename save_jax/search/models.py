"""The model of an index, by name: a run, a folder of weights, an address on the hub, CLIP's towers alone, or "demo"."""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from save_jax import sharding
from save_jax.config import model_sizes
from save_jax.data import records
from save_jax.inference import runs
from save_jax.inference.load import load_model
from save_jax.inference.model import Model
from save_jax.models.retrieval import Retrieval
from save_jax.models.trees import digest
from save_jax.search import demo
from save_jax.search.embedder import Embedder
from save_jax.weights import description, hub, loading

CLIP = {"vision", "text", "logit_scale"}
SENTENCES = 400


def open_embedder(name: str) -> Embedder:
    """Opens a run's workdir, a folder of weights, hf://OWNER/NAME, or the package's own small model, "demo".

    Raises ValueError that says what is missing and what to give.
    """
    path = demo.model_folder() if name == demo.MODEL else os.path.expanduser(name)
    if name != demo.MODEL and os.path.exists(path):
        name = path = os.path.abspath(path)  # an index is asked from any folder
    if os.path.isfile(path):
        raise ValueError(
            f"{name} is a weight file of other code; convert it first: save-jax convert --from {name} --kind clip "
            "--to weights/clip (docs/weights.md), then give --model weights/clip"
        )
    described = not name.startswith(hub.SCHEME) and os.path.exists(os.path.join(path, description.NAME))
    if described and set(description.read(path).modules) == CLIP:
        return Embedder(_clip(path), name)
    return Embedder(load_model(path if name == demo.MODEL else name), name)


def sentences_of(name: str) -> list[str]:
    """Captions that a model was trained with, as its users may ask; [] for a run whose shards are not here."""
    if name == demo.MODEL:
        return Path(demo.model_folder(), "sentences.txt").read_text(encoding="utf-8").splitlines()
    path = os.path.expanduser(name)
    if not os.path.exists(os.path.join(path, "config.json")):
        return []
    config = runs.read_config(path, needs_shards=False)
    try:
        source = records.ShardSource(records.split_shards(config.data_dir, "train"))
    except (ValueError, OSError):
        return []
    numbers = np.linspace(0, len(source) - 1, min(len(source), SENTENCES)).astype(int)
    return [clip.captions[0] for clip in (source[int(number)] for number in numbers) if clip.captions]


def _clip(path: str) -> Model:
    """CLIP's towers as they are: frames alone, without positions in time, since none were learned."""
    about = description.read(path)
    config = about.config.copy_and_resolve_references().unlock()
    config.model.branches = "vision"
    config.lock()
    mesh = sharding.make_mesh()
    module = Retrieval(model_sizes(config))
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), module.example(config))["params"])
    whole = sharding.replicated(mesh)
    like = {
        name: jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole), shapes[name])
        for name in CLIP
    }
    params = loading.load_params(path, like)
    if digest(jax.device_get(params)) != about.params_sha256:
        raise ValueError(f"{path} holds other parameters than its {description.NAME} says: damaged, or exchanged")
    added = {name: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes[name]) for name in shapes.keys() - CLIP}
    return Model(config, params | jax.device_put(added, whole), about.open_tokenizer(), mesh)
