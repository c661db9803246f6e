"""A run as one HTML page: opens it, evaluates it once more, and writes report.html into its folder."""

import argparse
import os
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from save_jax import sharding
from save_jax.config.vlsa import DIRECTIONS
from save_jax.data import command_line, files
from save_jax.evaluation.contract import Trained
from save_jax.inference import runs
from save_jax.methods.run import make_method
from save_jax.report import results_file
from save_jax.report.tables import METRICS
from save_jax.training import metrics_log, process
from save_jax.training.contract import Checkpoint, Method


def open_trained(workdir: str, data_dir: str | None, split: str | None) -> tuple[Method, Trained]:
    """A finished run of any method; arguments and errors as of `runs.open_run`."""
    workdir, mesh = os.path.expanduser(workdir), sharding.make_mesh()
    config = runs.open_config(workdir, data_dir, split, mesh)
    method = make_method(config, mesh)
    step, params, data = runs.restore_with_data(method.model, config, workdir, mesh)
    return method, Trained(workdir, method.evaluator(data), params, step)


def _agreement(mine: dict, stored: dict | None, name: str) -> str:
    """How a new evaluation compares with the results that the run left, in words."""
    if stored is None:
        return f"the run has left no {name} of this step to compare with"
    theirs, changed = stored["test"], []
    for direction in DIRECTIONS:
        if (direction in theirs) != (direction in mine):
            changed.append(f"{direction} is {'not here' if direction in theirs else 'new'}")
        elif direction in mine:
            then, now = theirs[direction], mine[direction]
            told = [metric for metric in METRICS if metric in then and then[metric] != now[metric]]
            changed += [f"{direction} {metric} {then[metric]:.4g} there, {now[metric]:.4g} here" for metric in told]
    for modality, row in mine.get("masked", {}).items():
        if (then := theirs.get("masked", {}).get(modality, {}).get("model")) != row["model"]:
            changed.append(f"masked {modality} {then} there, {row['model']} here")
    return f"{name} says otherwise: {'; '.join(changed)}" if changed else f"the same as in {name}, to the last digit"


def write_page(workdir: str, data_dir: str | None = None, split: str | None = None, queries: int = 40) -> Path:
    """Evaluates the checkpoint that validation picked once more and writes report.html (report-SPLIT.html) into a run.

    Args:
        workdir: of a run; results.json, where it is there, gives the other checkpoints to compare with.
        data_dir, split: as runs.open_run.
        queries: how many to show.
    Raises:
        ValueError or ShardError that says what is missing and what to give.
    """
    method, run = open_trained(workdir, data_dir, split)
    tested: str = run.config.data.test_split
    name = results_file.name_of(run.data, tested, workdir)
    path = Path(workdir) / name
    stored = files.read_json(path) if path.exists() else None
    if stored and (stored["picked_step"] != run.step or stored["split"] != tested):
        stored = None  # the run went on since
    evaluation, picked = method.assess(run.evaluator, run.params, tested), Checkpoint(run.step, run.params)
    [mine, *_] = method.compare(run.evaluator, evaluation, picked, picked).items()
    made = results_file.results(
        run.config,
        evaluation,
        data=run.data,
        step=run.step,
        checkpoints=(stored or {}).get("checkpoints", {}) | dict([mine]),
        params_sha256=(stored or {}).get("params_sha256", ""),
    )
    rows = metrics_log.read_rows(os.path.join(workdir, "metrics.jsonl"))
    agreement = _agreement(evaluation.results, stored, name)
    out = Path(workdir) / name.replace("results", "report", 1).replace(".json", ".html")
    out.write_text(method.page(run, evaluation, made, rows, queries, agreement), encoding="utf-8")
    return out


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="save-jax report", description="A finished run as one HTML page.")
    parser.add_argument("workdir", help="folder of a run")
    parser.add_argument("--data-dir", "--data_dir", help="folder of its shards, if they moved")
    parser.add_argument("--split", help="split to evaluate instead of the run's test split")
    parser.add_argument(
        "--queries", type=int, default=40, help="queries to show, evenly over groups or directions (%(default)s)"
    )
    parser.add_argument("--open", action="store_true", help="open the page in a browser")
    arguments = parser.parse_args(command_line.arguments(argv))
    if arguments.queries < 1:
        parser.error(f"--queries is {arguments.queries}; show at least one")
    process.set_up_process()
    try:
        out = write_page(arguments.workdir, arguments.data_dir, arguments.split, arguments.queries)
    except ValueError as error:
        sys.exit(f"error: {error}")
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB, one file that needs no network")
    if arguments.open:
        webbrowser.open(out.resolve().as_uri())
