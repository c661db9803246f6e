"""Rules of a run's folder: which run it belongs to, and what may change when the run is continued."""

import json
import os

import jax
from ml_collections import ConfigDict

from save_jax import sharding
from save_jax.config import changes_since
from save_jax.config.retrieval import start_paths
from save_jax.data import files, pipeline
from save_jax.data.tokenizer import Tokenizer, WordPieces
from save_jax.weights import description
from save_jax.weights.checkpoint import FOLDER

# What may differ when a run is continued: where the data are, and how fast they are read and reported.
FREE_SETTINGS = (
    "data_dir",
    "data.threads",
    "data.prefetch",
    "evaluation.without_modalities",
    "evaluation.peak_on_test",
    "log_every",
    "keep_last",
    "spike",
    "data.workers",
    "data.resident",
    "sharding",
    "micro_batch",
    "model.remat",
    "model.attention",
    "model.precision",
)


def check_workdir(config: ConfigDict, workdir: str, free: tuple[str, ...] = FREE_SETTINGS) -> None:
    """Raises ValueError, with both sides, if the workdir holds checkpoints of another configuration."""
    path = os.path.join(workdir, "config.json")
    if os.path.exists(path) and is_begun(workdir):
        lines = changes_since(config, files.read_json(path), free)
        if lines:
            raise ValueError(
                f"{workdir} belongs to a run of another configuration:\n  "
                + "\n  ".join(lines)
                + "\nchoose another --workdir, delete that one, or go back to its settings"
            )


def is_begun(workdir: str) -> bool:
    """Whether a workdir holds checkpoints."""
    folder = os.path.join(workdir, FOLDER)
    return os.path.isdir(folder) and any(name.split(".")[0].isdigit() for name in os.listdir(folder))


def claim_workdir(config: ConfigDict, workdir: str) -> None:
    """Writes config.json, after `check_workdir`. Several processes must agree on it; the first one writes."""
    # First, so that no process fails below while the others wait for it.
    sharding.agree("the configuration", json.dumps(config.to_dict() | {"data_dir": ""}, sort_keys=True))
    check_workdir(config, workdir)
    if jax.process_index() == 0:
        os.makedirs(workdir, exist_ok=True)
        files.write_json(os.path.join(workdir, "config.json"), config.to_dict())


def agree_on_shards(data: pipeline.Data) -> None:
    """Raises ValueError in every process if one of them reads other shards than the others."""
    used = sorted(os.path.basename(path) for source in data.sources.values() for path in source.paths)
    text = json.dumps([[name, data.manifest["shards"][name]["crc32c"]] for name in used])
    sharding.agree(f"the content of the shards (config.data_dir; {data.directory} in this process)", text)


def changed_shards(now: dict, then: dict) -> list[str]:
    """Names of the shards in which two manifests differ."""
    return [name for name in sorted(now.keys() | then.keys()) if now.get(name) != then.get(name)]


def check_same_data(data: pipeline.Data, shards: dict, workdir: str) -> None:
    """Raises ValueError if the run was begun on other shards: its input position would mean other pairs."""
    now = data.manifest["shards"]
    if changed := changed_shards(now, shards):
        raise ValueError(
            f"{workdir} was begun on other shards: {changed[0]} was {shards.get(changed[0])}, is "
            f"{now.get(changed[0])}; set config.data_dir to those it was begun on, or start in another --workdir"
        )


def keep_tokenizer(tokenizer: Tokenizer | WordPieces, workdir: str, init_from: str = "") -> None:
    """Keeps the run's tokenizer in its workdir. Of several processes, which must have the same, the first one writes.

    Raises ValueError if the run, or weights that it starts from, have another vocabulary. Says of which weights nothing
    tells their vocabulary.
    """
    sharding.agree("the tokenizer (config.data.tokenizer)", tokenizer.digest)
    check_tokenizer_of(tokenizer, workdir)
    for path in start_paths(init_from):
        check_tokenizer_of(tokenizer, path)
        if description.stored_digest(path) is None:
            sharding.say(f"{path} does not say which vocabulary its words are of, if it has any")
    if jax.process_index() == 0:
        description.copy_tokenizer(tokenizer, workdir)


def with_own_tokenizer(config: ConfigDict, workdir: str) -> ConfigDict:
    """A run's config for other shards than its own: where those bring no tokenizer, the run's copy serves."""
    copy = os.path.join(workdir, description.TOKENIZER)
    learned = os.path.join(config.data_dir, "tokenizer")
    if config.data.tokenizer != "data" or os.path.isdir(learned) or not os.path.isdir(copy):
        return config
    config = config.copy_and_resolve_references().unlock()
    config.data.tokenizer = copy
    return config.lock()


def check_tokenizer_of(tokenizer: Tokenizer | WordPieces, path: str) -> None:
    """Raises ValueError if weights in a workdir or folder were trained with another vocabulary."""
    description.check_tokenizer(tokenizer, description.stored_digest(path), path)
