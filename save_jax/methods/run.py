"""A whole run: training, then the final evaluation of the checkpoint that validation picked."""

import os

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from save_jax import sharding
from save_jax.data import files
from save_jax.evaluation.contract import Evaluator
from save_jax.methods.retrieval import RetrievalMethod
from save_jax.methods.vlsa import VlsaMethod
from save_jax.report import results_file
from save_jax.training import loop, metrics_log, place
from save_jax.training.contract import Checkpoint, Method

METHODS = {"retrieval": RetrievalMethod, "vlsa-pretrain": VlsaMethod, "vlsa-finetune": VlsaMethod}


def make_method(config: ConfigDict, mesh: Mesh) -> Method:
    """The method of a resolved config. Raises ValueError where processes of a run would compute attention otherwise."""
    made = METHODS[config.task](config, mesh)
    if jax.process_count() > 1:  # each asks its own machine whether it has cuDNN
        sharding.agree(f"the kernel of attention ({made.model.kernel} in this process)", made.model.kernel)
    return made


def train(config: ConfigDict, workdir: str) -> dict:
    """Trains (or goes on training) in `workdir`, then evaluates the checkpoint picked on validation on test.

    Args:
        config: a resolved config.
        workdir: as of `loop.train`; at the end it gets results.json and figures/, too.
    Returns:
        What results.json holds.
    Raises:
        As `loop.train`; ValueError for a workdir in which another training runs, or that cannot hold checkpoints.
    """
    mesh = sharding.make_mesh()
    method = make_method(config, mesh)
    with place.alone_in(workdir):
        done = loop.train(method, config, workdir, mesh)
        name = results_file.RESULTS
        return evaluate(method, done.evaluator, workdir, name, done.picked, done.last, done.params_sha256)


def evaluate(
    method: Method,
    evaluator: Evaluator,
    workdir: str,
    name: str,
    picked: Checkpoint,
    last: Checkpoint,
    params_sha256: str,
) -> dict:
    """The final evaluation: assesses `picked`, compares it with `last`, writes results and figures, prints tables.

    Args:
        name: of the results file in `workdir`, see `results_file.name_of`.
        params_sha256: of the parameters after the last step.
    """
    config, data, split = evaluator.config, evaluator.data, evaluator.config.data.test_split
    evaluation = method.assess(evaluator, picked.params, split)
    rows = metrics_log.read_rows(os.path.join(workdir, "metrics.jsonl"))
    checkpoints = method.compare(evaluator, evaluation, picked, last)
    if name == results_file.RESULTS:  # the run's own test, which it may have peaked on
        checkpoints |= results_file.peak_on_test(rows, config)
    results = results_file.results(
        config, evaluation, data=data, step=picked.step, checkpoints=checkpoints, params_sha256=params_sha256
    )
    if jax.process_index() == 0:
        files.write_json(os.path.join(workdir, name), results)
        results_file.write_scores(workdir, name, evaluation, data.manifest["corpus"], split, config.data.val_split)
        print(f"\n{method.tables(results, rows)}")
        folder = results_file.folder_of(name, workdir)
        figures = method.figures(results, rows, evaluation, data, folder)
        print(f"\n{os.path.join(workdir, name)} and {len(figures)} figures in {folder}", flush=True)
    return results
