"""The runs of a sweep: every variant with every seed, each in a folder of its own; finished ones are kept."""

import itertools
import os
import time
from collections.abc import Mapping, Sequence

import numpy as np
from ml_collections import ConfigDict

from save_jax import config as config_lib
from save_jax import sharding
from save_jax.data import files, pipeline, reader, records
from save_jax.methods import run as method_run
from save_jax.report import results_file
from save_jax.training.workdir import FREE_SETTINGS, changed_shards


def run_all(
    config: ConfigDict, workdir: str, seeds: Sequence[int], variants: Mapping[str, Mapping]
) -> dict[str, list[dict]]:
    """Trains and evaluates what is not finished; variant → results of every seed.

    Raises ValueError before anything is trained where a folder holds results of other settings or other shards.
    """
    runs = []
    for seed, (name, changes) in itertools.product(seeds, variants.items()):
        variant = config.copy_and_resolve_references()
        variant.update_from_flattened_dict({**changes, "seed": seed})
        variant, folder = config_lib.resolve(variant), os.path.join(workdir, f"{name}-seed{seed}")
        runs.append((name, variant, folder, finished(variant, folder)))
    done: dict[str, list[dict]] = {name: [] for name in variants}
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for number, (name, variant, folder, results) in enumerate(runs):
        if results is None:
            left = time_left(seconds, [run[0] for run in runs[number:] if run[3] is None])
            sharding.say(f"\nrun {number + 1} of {len(runs)}: {folder}{left}")
            begin = time.monotonic()
            results = method_run.train(variant, folder)
            seconds[name].append(time.monotonic() - begin)
        done[name].append(results)
    return done


def finished(config: ConfigDict, folder: str) -> dict | None:
    """The results of a run that was trained to its end; None where there is none yet, or it is to go on.

    Its checkpoints may be gone. Raises ValueError that shows both sides where the results are of another configuration
    than `config` (resolved), or of other shards than lie in config.data_dir now.
    """
    path = os.path.join(folder, results_file.RESULTS)
    if not os.path.exists(path):
        return None
    results = files.read_json(path)
    if lines := config_lib.changes_since(config, results["config"], FREE_SETTINGS) + _other_shards(
        config.data_dir, results["data"]["shards"]
    ):
        raise ValueError(
            f"{path} is of another experiment:\n  "
            + "\n  ".join(lines)
            + f"\nchoose another --workdir, delete {folder}, or go back to its settings and shards"
        )
    source = records.ShardSource(records.split_shards(config.data_dir, "train"))
    items = reader.count_items(source, pipeline.ITEMS[config.task])
    total = config.steps or config.epochs * (items // config.batch_size)
    return results if results["checkpoints"]["last"]["step"] == total else None


def _other_shards(directory: str, stored: dict) -> list[str]:
    path = os.path.join(directory, records.MANIFEST)
    if not os.path.exists(path):
        return [
            f"there is no {path} to compare with; set config.data_dir to the shards, or run data_prep.build to its end"
        ]
    now = files.read_json(path)["shards"]
    return [f"{name}: {now.get(name)} here, {stored.get(name)} there" for name in changed_shards(now, stored)[:1]]


def time_left(seconds: Mapping[str, Sequence[float]], names: Sequence[str]) -> str:
    """What the variants `names` may take, as words to end a line with, from the seconds that others of them took.

    Nothing where none has been timed yet; one that has not is taken for their mean.
    """
    known = list(itertools.chain(*seconds.values()))
    if not known:
        return ""
    left = round(sum(np.mean(seconds[name] or known) for name in names))
    return f", about {left // 3600}:{left // 60 % 60:02d}:{left % 60:02d} left"
