"""The command line: `python -m save_jax.main --config configs/demo.py --workdir runs/demo [--mode=eval]`."""

import sys
import traceback

import jax
from absl import app, flags
from ml_collections import ConfigDict

from save_jax import sharding
from save_jax.config import resolve
from save_jax.inference import runs
from save_jax.methods import run as method_run
from save_jax.models import trees
from save_jax.report import results_file
from save_jax.training import companions, devices, place, process, tower_cache, workdir
from save_jax.training import flags as run_flags
from save_jax.training.monitor import TrainingError

flags.adopt_module_key_flags(run_flags)  # --help shows those, too
MODE = flags.DEFINE_enum(
    "mode",
    "train",
    ["train", "eval", "cache"],
    "Train, then evaluate; evaluate the picked checkpoint; or store what config.cache names beside the shards.",
)


def evaluate(config: ConfigDict, folder: str) -> dict:
    """Evaluates the picked checkpoint of a run in `folder` on config.data.test_split and writes results and figures.

    They go into results.json and figures/; those of another split or of other shards than the run's own have names of
    their own (results_file.name_of).
    """
    workdir.check_workdir(
        config, folder, free=(*workdir.FREE_SETTINGS, "batch_size", "data.test_split", "data.tokenizer")
    )
    config = workdir.with_own_tokenizer(config, folder)
    mesh = sharding.make_mesh()
    sharding.check_batch_size(config.batch_size, mesh)
    if config.micro_batch and config.task != "retrieval":  # VLSA evaluates that many at a time
        sharding.check_batch_size(config.micro_batch, mesh, "micro_batch")
    data = runs.open_data(config)
    workdir.agree_on_shards(data)
    devices.warn_of_evaluating_on_cpu(config, len(data.sources[config.data.test_split]))
    workdir.check_tokenizer_of(data.tokenizer, folder)
    method = method_run.make_method(config, mesh)
    picked = runs.restore(method.model, config, folder, mesh)
    last = runs.restore(method.model, config, folder, mesh, "last")
    name = results_file.name_of(data, config.data.test_split, folder)
    return method_run.evaluate(method, method.evaluator(data), folder, name, picked, last, trees.digest(last.params))


def run(config: ConfigDict, folder: str, mode: str) -> None:
    """Dispatches; what a user can cause ends as one message instead of a traceback, in every process of the run."""
    try:
        place.check_address(folder)
    except ValueError as error:  # the same in every process
        sys.exit(f"error: {error}")
    others = companions.Companions(folder)
    try:
        config = resolve(config)
        sharding.say(devices.describe(config))
        if mode == "cache":
            tower_cache.make(config)
        elif mode == "eval":
            evaluate(config, folder)
        else:
            method_run.train(config, folder)
    except (ValueError, TrainingError) as error:
        others.fail(str(error))
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1:
            raise
        if "RESOURCE_EXHAUSTED" in str(error):
            traceback.print_exc()
            others.fail(str(error).splitlines()[0])
        others.lost(f"another process has ended or cannot be reached ({str(error).splitlines()[0][:200]})")
    except Exception as error:
        if jax.process_count() == 1:
            raise
        traceback.print_exc()
        others.fail(f"{type(error).__name__}: {error}")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    process.set_up_process()
    run_flags.join_processes()
    process.warn_of_unused_accelerator()
    folder = run_flags.WORKDIR.value
    assert folder is not None  # a required flag
    run(run_flags.CONFIG.value, folder, MODE.value)


if __name__ == "__main__":
    app.run(main, flags_parser=run_flags.parse_flags)
