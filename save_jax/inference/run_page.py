"""A run as one HTML page: opens it, evaluates it once more, and writes report.html into its folder."""

import argparse
import os
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from save_jax.config.vlsa import DIRECTIONS
from save_jax.data import command_line, files
from save_jax.inference import runs
from save_jax.report import results_file
from save_jax.report.tables import METRICS
from save_jax.training import metrics_log, process
from save_jax.training.contract import Checkpoint


def _agreement(mine: dict, stored: dict | None, name: str) -> str:
    """How a new evaluation compares with the results that the run left, in words."""
    if stored is None:
        return f"the run has left no {name} of this step to compare with"
    changed = []
    for direction in [name for name in mine if name in DIRECTIONS and name in stored["test"]]:
        then, now = stored["test"][direction], mine[direction]
        changed += [
            f"{direction} {m} {then[m]:.4g} there, {now[m]:.4g} here"
            for m in METRICS
            if m in then and then[m] != now[m]
        ]
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
    method, run = runs.open_trained(workdir, data_dir, split)
    tested: str = run.config.data.test_split
    name = results_file.name_of(run.data, tested, workdir)
    path = Path(workdir) / name
    stored = files.read_json(path) if path.exists() else None
    if stored and (stored["picked_step"] != run.step or stored["split"] != tested):
        stored = None  # the run went on since
    evaluation, picked = method.assess(run.evaluator, run.params, tested), Checkpoint(run.step, run.params)
    mine = list(method.compare(run.evaluator, evaluation, picked, picked).items())[:1]  # the rest is of other steps
    made = results_file.results(
        run.config,
        evaluation,
        data=run.data,
        step=run.step,
        checkpoints=(stored or {}).get("checkpoints", {}) | dict(mine),
        params_sha256=(stored or {}).get("params_sha256", ""),
    )
    rows = metrics_log.read_rows(os.path.join(workdir, "metrics.jsonl"))
    agreement = _agreement(evaluation.results, stored, name)
    out = Path(workdir) / name.replace("results", "report", 1).replace(".json", ".html")
    out.write_text(method.page(run, evaluation, made, rows, queries, agreement), encoding="utf-8")
    return out


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m save_jax.report", description="A finished run as one HTML page.")
    parser.add_argument("workdir", help="folder of a run")
    parser.add_argument("--data-dir", "--data_dir", help="folder of its shards, if they moved")
    parser.add_argument("--split", help="split to evaluate instead of the run's test split")
    parser.add_argument("--queries", type=int, default=40, help="queries to show, evenly over groups (%(default)s)")
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
