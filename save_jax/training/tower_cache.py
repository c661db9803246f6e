"""Outputs of frozen towers, computed once and kept beside the shards: `python -m save_jax.main --mode=cache`.

A frozen tower gives the same output for a clip in every epoch. `make` runs the towers over all clips and captions of a
config's splits. `open_checked` opens their outputs for training, after checking parameters, shards and settings.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict
from tqdm import tqdm

from save_jax import sharding
from save_jax.config import branches, differences
from save_jax.config.retrieval import FROZEN_BY_CACHE
from save_jax.config.sizes import precision
from save_jax.data import files, pipeline, stored
from save_jax.data.stored import Stored
from save_jax.models import trees
from save_jax.models.apply import apply
from save_jax.models.retrieval import Retrieval, make_model
from save_jax.training import optim, state

FOLDER = "cache"  # within config.data_dir
# Field → the live inputs that it is computed from, and the branch that reads it.
INPUTS = {"ast": ("fbank",), "visual": ("frames", "frame_mask"), "speech": ("speech_ids",), "text": ("text_ids",)}
BRANCHES = {"ast": "audio", "visual": "vision", "speech": "speech", "text": "vision"}
KINDS = {"ast": ("ast",), "towers": ("ast", "visual", "speech", "text")}
# What the values depend on besides parameters and shards.
SETTINGS = ("dtype", "activation", "image_size", "patch_size", "head_dim")
SETTINGS += ("ast_heads", "ast_patch", "ast_stride", "ast_epsilon")


def fields(config: ConfigDict) -> tuple[str, ...]:
    """Names of what config.cache stores for the config's branches. Raises ValueError if that is nothing."""
    stores = tuple(field for field in KINDS.get(config.cache, ()) if BRANCHES[field] in branches(config))
    if not stores:
        raise ValueError(
            f"config.cache={config.cache} stores nothing for config.model.branches={config.model.branches}; "
            f"set config.cache to {' or '.join(KINDS)} (ast needs the audio branch)"
        )
    return stores


def open_checked(config: ConfigDict, data: pipeline.Data, params: dict, mesh: Mesh) -> Stored | None:
    """The stored outputs that config.cache asks for; None if it is "none".

    Raises ValueError if the cache is missing, or if it is of other weights, shards or settings. The message shows both
    sides.
    """
    if config.cache == "none":
        return None
    wanted, expected = fields(config), _describe(config, data, params, mesh)
    directory = _directory(config, expected)
    if not os.path.exists(os.path.join(directory, stored.META)):
        others = sorted(os.listdir(os.path.dirname(directory))) if os.path.isdir(os.path.dirname(directory)) else []
        others = [name for name in others if name.startswith(f"{config.cache}-") and "." not in name]
        raise ValueError(
            f"no cache of these weights in {os.path.dirname(directory)}: {os.path.basename(directory)} is not there"
            f"{', only ' + ', '.join(others) if others else ''}; run this command once with --mode=cache (the weights "
            "are those of config.init_from, or of config.seed), or set config.cache=none"
        )
    if lines := _misfits(expected, stored.read_meta(directory)):
        raise ValueError(
            f"{directory} does not fit:\n  " + "\n  ".join(lines) + "\nrun --mode=cache again, or set config.cache=none"
        )
    counts = {
        split: {"clips": len(source), "captions": int(source.caption_counts.sum())}
        for split, source in data.sources.items()
    }
    sharding.say(f"{', '.join(wanted)} from {directory}; these towers are frozen")
    return Stored(directory, wanted, counts)


def make(config: ConfigDict) -> str:
    """Computes and stores what config.cache names, for the splits of the config. Returns the folder.

    Raises ValueError for what cannot work, such as a full disk. The folder appears once all is stored.
    """
    if config.task != "retrieval":
        raise ValueError(f"--mode=cache stores frozen towers, and {config.task} has none; train without it")
    if jax.process_count() > 1:
        raise ValueError(f"--mode=cache runs in one process, here are {jax.process_count()}; start it on one host")
    wanted, mesh = fields(config), sharding.make_mesh()
    sharding.check_batch_size(config.batch_size, mesh)
    model, optimizer = make_model(config, mesh), optim.make_optimizer(config.optim, 1)
    state.check_start(model, config)
    data = pipeline.Data(config, tuple(dict.fromkeys(("train", config.data.val_split, config.data.test_split))))
    params = state.start(model, optimizer, config, mesh).params
    expected = _describe(config, data, params, mesh)
    directory = _directory(config, expected)
    if _is_whole(directory, expected):
        print(f"{directory} exists already")
        return directory
    os.makedirs(os.path.dirname(directory), exist_ok=True)
    temporary = f"{directory}.unfinished"
    with open(os.path.join(os.path.dirname(directory), ".lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system releases it however the process ends
        except BlockingIOError as error:
            raise ValueError(f"another process is storing into {os.path.dirname(directory)}; wait for it") from error
        shutil.rmtree(temporary, ignore_errors=True)  # of a process that was killed
        os.makedirs(temporary)
        try:
            meta = expected | {"splits": _store(temporary, config, data, model, params, mesh, wanted)}
            files.write_json(os.path.join(temporary, stored.META), meta)
            shutil.rmtree(directory, ignore_errors=True)  # of other shards or settings
            os.replace(temporary, directory)
        except OSError as error:
            raise ValueError(f"cannot write {directory}: {error.strerror or error}; free some space") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    size = sum(entry.stat().st_size for entry in os.scandir(directory))
    print(f"{directory}: {', '.join(wanted)}, {size / 2**20:.1f} MiB")
    return directory


def _store(
    directory: str,
    config: ConfigDict,
    data: pipeline.Data,
    model: Retrieval,
    params: dict,
    mesh: Mesh,
    wanted: tuple[str, ...],
) -> dict:
    """Runs the towers over every split. Returns the part of meta.json that describes the files."""

    def towers(params: dict, inputs: dict) -> dict:
        outputs = apply(Retrieval.towers, model, sharding.gathered(params, mesh), inputs)
        return {name: x.astype(jnp.bfloat16) for name, x in outputs.items()}

    rows = sharding.by_sample(mesh)
    run = jax.jit(towers, in_shardings=(None, rows), out_shardings=rows)

    def encode(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return jax.device_get(run(params, sharding.to_devices(inputs, mesh)))

    described = {}
    for split, source in data.sources.items():
        captions = int(source.caption_counts.sum())
        with tqdm(total=len(source), desc=f"cache {split} clips", unit="clip", disable=None) as bar:
            per_clip = [field for field in wanted if stored.ITEMS[field] == "clips"]
            batches = pipeline.eval_batches(data, config, split)
            described[split] = _write(directory, split, per_clip, batches, encode, bar)
        if "text" in wanted:
            with tqdm(total=captions, desc=f"cache {split} captions", unit="caption", disable=None) as bar:
                texts = _texts(data, config, split)
                described[split] |= _write(directory, split, ["text"], texts, encode, bar)
    return described


def _write(
    directory: str, split: str, wanted: list[str], batches: Iterator[dict], encode: Callable[[dict], dict], bar: tqdm
) -> dict:
    """Encodes batches and writes the first `bar.total` rows of each field; the rest pads the last batch."""
    files, done = {field: stored.Writer(directory, split, field) for field in wanted}, 0
    for batch in batches:
        rows = encode({name: batch[name] for field in wanted for name in INPUTS[field]})
        here = min(len(rows[wanted[0]]), bar.total - done)
        for number in range(here):
            for field, file in files.items():
                file.add(rows[field][number], same=field == "ast" and not batch["has_audio"][number])
        done += here
        bar.update(here)
    return {field: file.close() for field, file in files.items()}


def _texts(data: pipeline.Data, config: ConfigDict, split: str) -> Iterator[dict[str, np.ndarray]]:
    """Tokens of every caption of a split, in order, in full batches."""
    source, size, waiting = data.sources[split], config.batch_size, []
    for number in range(len(source)):
        waiting += [data.clip_to_arrays.text(caption) for caption in source[number].captions]
        while len(waiting) >= size:
            yield {"text_ids": np.stack(waiting[:size])}
            del waiting[:size]
    if waiting:
        yield {"text_ids": np.stack(waiting + waiting[:1] * (size - len(waiting)))}


def _describe(config: ConfigDict, data: pipeline.Data, params: dict, mesh: Mesh) -> dict:
    """What stored values depend on, for meta.json."""
    towers = optim.split_frozen(params, FROZEN_BY_CACHE[config.cache])[1]
    settings = {name: config.model.to_dict()[name] for name in SETTINGS} | {"precision": precision(config)}
    if config.cache == "towers":
        settings |= {"max_frames": config.data.max_frames, "max_words": config.data.max_words}
        settings |= {"tokenizer": data.tokenizer.digest}
    shards = {
        os.path.basename(path): data.manifest["shards"][os.path.basename(path)]["crc32c"]
        for source in data.sources.values()
        for path in source.paths
    }
    # Through JSON, like the file that it is compared with: tuples become lists.
    return json.loads(
        json.dumps(
            {
                "format": stored.FORMAT,
                "towers_sha256": trees.digest(sharding.whole(trees.unflatten(towers), mesh)),
                "settings": settings,
                "shards": shards,
            }
        )
    )


def _directory(config: ConfigDict, expected: dict) -> str:
    return os.path.join(config.data_dir, FOLDER, f"{config.cache}-{expected['towers_sha256'][:12]}")


def _is_whole(directory: str, expected: dict) -> bool:
    """Whether a folder holds what is expected, in today's format."""
    try:
        return not _misfits(expected, stored.read_meta(directory))
    except ValueError:
        return False


def _misfits(expected: dict, meta: dict) -> list[str]:
    """Lines for what differs. A cache of more shards than are wanted fits."""
    shards = {name: meta["shards"][name] for name in meta["shards"] if name in expected["shards"]}
    return differences(expected, {name: meta[name] for name in expected} | {"shards": shards})
