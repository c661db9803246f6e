"""The command line: `python -m save_jax.main --config configs/demo.py --workdir runs/demo [--mode=eval]`."""

import os
import sys

import jax
from absl import app, flags
from ml_collections import ConfigDict

from save_jax import cli, report, sharding, state, train
from save_jax import config as config_lib
from save_jax.assess import assess
from save_jax.checkpoint import FOLDER, Checkpoints
from save_jax.data import pipeline
from save_jax.evaluate import Evaluator
from save_jax.models.retrieval import Retrieval

MODE = flags.DEFINE_enum("mode", "train", ["train", "eval"], "Train, then evaluate; or evaluate the picked checkpoint.")


def evaluate(config: ConfigDict, workdir: str) -> dict:
    """Evaluates a run's picked checkpoint on config.data.test_split and writes results.json and figures."""
    if not os.path.isdir(os.path.join(workdir, FOLDER)):
        raise ValueError(f"no checkpoint in {workdir}; train first, or give the --workdir of a run")
    train.check_workdir(config, workdir, free=(*train.FREE_SETTINGS, "batch_size", "data.test_split"))
    mesh = sharding.make_mesh()
    sharding.check_batch_size(config.batch_size, mesh)
    split = config.data.test_split
    data = pipeline.Data(config, (config.data.val_split, split) if split != config.data.val_split else (split,))
    model = Retrieval(config_lib.model_sizes(config))
    shapes = jax.eval_shape(lambda: state.init_params(model, config, jax.random.key(0)))
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding.replicated(mesh)), shapes)
    checkpoints = Checkpoints(workdir)
    best, latest = checkpoints.best(), checkpoints.latest()
    if best is None:
        raise ValueError(f"no checkpoint in {workdir} is complete; train first")
    evaluator = Evaluator(model, data, config, mesh)
    last_params = checkpoints.restore_params(latest, like)
    last = evaluator.run(last_params, split).results
    evaluation = assess(evaluator, checkpoints.restore_params(best, like), split, bank_split=config.data.val_split)
    checkpoints.close()
    results = report.results(
        config,
        evaluation,
        data=data,
        checkpoints=report.compare_checkpoints((best, evaluation.results), (latest, last), workdir, config),
        params_sha256=state.digest(last_params),
    )
    report.write(results, evaluation, data, workdir, f"results-{split}.json" if split != "test" else report.RESULTS)
    return results


def run(config: ConfigDict, workdir: str, mode: str) -> None:
    """Dispatches; what a user can cause ends as one message instead of a traceback."""
    try:
        config = config_lib.resolve(config)
        if mode == "eval":
            evaluate(config, workdir)
        else:
            train.train(config, workdir)
    except (ValueError, train.TrainingError) as error:
        sys.exit(f"error: {error}")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    cli.set_up_process()
    run(cli.CONFIG.value, cli.WORKDIR.value, MODE.value)


if __name__ == "__main__":
    app.run(main, flags_parser=cli.parse_flags)
