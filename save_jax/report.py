"""What a finished run tells: results.json, printed tables, the figures, and all of it as one page.

`python -m save_jax.report runs/demo` evaluates the run again and writes runs/demo/report.html.

results.json:
  test: {t2v, v2t: {R@1, R@5, R@10, R@50 in percent, MedR, MeanR, MRR, SumR, queries},
         groups: {name: {t2v, v2t, intervals: {t2v}}}, groups_are: where the groups come from,
         gallery: {videos, captions, without_captions, without_sound, without_transcript, failed: {id: reason}},
         gates: {branch: {tag: {attention, mlp: mean absolute gate, clips}}},
         protocol, audit, intervals, by_video, without_modalities, post_processed: as assess.assess describes them}
  split, picked_step: what was evaluated, and the step that validation picked
  checkpoints: {"picked on validation", "last", with config.evaluation.peak_on_test also "peak on test":
                {step, t2v, v2t}}
  params_sha256: of the parameters after the last step
  config, versions: all settings; packages, Python and devices
  data: corpus, settings and checksums of the shards
VLSA's has another `test`, as tasks.VlsaTask.finish describes it, and of `checkpoints` the steps alone.
"""

import argparse
import os
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from save_jax import page, plots, runs, writers
from save_jax.assess import assess
from save_jax.data.pipeline import Data
from save_jax.evaluate import Evaluation

RESULTS = "results.json"
METRICS = page.METRICS
PEAK = "peak on test"


def one_line(summary: dict) -> str:
    """A summary of one direction in one line."""
    return "  ".join(f"{name} {summary[name]:.1f}" for name in ("R@1", "R@5", "R@10", "MedR", "SumR"))


def compare_checkpoints(
    picked: tuple[int, dict], last: tuple[int, dict], workdir: str, config: ConfigDict, own: bool = True
) -> dict[str, dict]:
    """The same test under different ways to choose a checkpoint, each labelled; (step, results) of two of them.

    The peak on test is what several published numbers are. It is there only if the run tested at every validation, and
    stands beside the others, never in their place. `own`: whether this is the run's own test, which it peaked on.
    """
    found = {"picked on validation": picked, "last": last}
    rows = writers.read_rows(os.path.join(workdir, "metrics.jsonl"))
    tested = [row for row in rows if row["split"] == config.data.test_split and "t2v" in row]
    if own and tested and config.evaluation.peak_on_test:
        peak = max(tested, key=lambda row: row["t2v"]["SumR"])
        found[PEAK] = (peak["step"], peak)
    return {name: {"step": step, "t2v": test["t2v"], "v2t": test["v2t"]} for name, (step, test) in found.items()}


def results(config: ConfigDict, evaluation: Evaluation, *, data: Data, checkpoints: dict, params_sha256: str) -> dict:
    """The content of results.json; `checkpoints` from `compare_checkpoints`."""
    return {
        "test": evaluation.results,
        "split": config.data.test_split,
        "picked_step": checkpoints["picked on validation"]["step"],
        "checkpoints": checkpoints,
        "params_sha256": params_sha256,
        "config": config.to_dict(),
        "versions": writers.versions(),
        "data": {name: data.manifest[name] for name in ("corpus", "settings", "shards")},
    }


def _cell(metric: str, value: float) -> str:
    return f"{value:9.3f}" if metric == "MRR" else f"{value:9.1f}"


def rows_as_text(rows: list[tuple[str, dict]]) -> str:
    """Named summaries as a table."""
    width = max(len(name) for name, _ in rows)
    lines = [" " * width + "".join(f"{name:>9}" for name in METRICS) + "  queries"]
    lines += [
        name.ljust(width) + "".join(_cell(m, summary[m]) for m in METRICS) + f"{summary['queries']:9d}"
        for name, summary in rows
    ]
    return "\n".join(lines)


def table(test: dict) -> str:
    """Both directions and all groups as text."""
    rows = [("text → video", test["t2v"]), ("video → text", test["v2t"])]
    rows += [(f"text → video, {name}", group["t2v"]) for name, group in test["groups"].items()]
    return rows_as_text(rows)


def more_tables(results: dict) -> str:
    """What surrounds the headline: checkpoints, by what videos have, with inputs taken away, post-processing."""
    test = results["test"]
    taken = [("as it is", test["t2v"])] + [(name, found["t2v"]) for name, found in test["without_modalities"].items()]
    low, high = test["intervals"]["t2v"]["SumR"]
    parts = [
        f"protocol: {test['protocol']['name']}; "
        + ("; ".join(test["protocol"]["departures"]) or "as it says: complete gallery, every query ranked"),
        f"95 % interval of text → video SumR over videos with their queries: {low:.1f} to {high:.1f}",
        "by choice of checkpoint\n"
        + rows_as_text([(f"{name} (step {c['step']})", c["t2v"]) for name, c in results["checkpoints"].items()]),
        "by what the right video has\n" + rows_as_text(list(test["by_video"].items())),
        "with inputs taken away or exchanged\n" + rows_as_text(taken) if len(taken) > 1 else "",
        "post-processed: looks at more than the one query, so not comparable with the above\n"
        + rows_as_text([(f"{n} ({p['uses']})", p["t2v"]) for n, p in test["post_processed"].items()]),
    ]
    return "\n\n".join(part for part in parts if part)


def gate_lines(gates: dict) -> str:
    """Mean absolute gates by branch and kind of clip as text."""
    lines = []
    for branch, tags in gates.items():
        for tag, row in tags.items():
            lines.append(
                f"{branch:7} {tag:10} attention {row['attention']:.3f}  mlp {row['mlp']:.3f}  ({row['clips']} clips)"
            )
    return "\n".join(lines)


def name_of(data: Data, split: str, workdir: str) -> str:
    """results.json is of the run's own shards and test split; others have a name of their own and replace nothing."""
    path = os.path.join(workdir, RESULTS)
    if os.path.exists(path) and writers.read_json(path)["data"]["shards"] != data.manifest["shards"]:
        return f"results-{data.manifest['corpus']}-{split}.json"
    own = writers.read_json(os.path.join(workdir, "config.json"))["data"]["test_split"]
    return RESULTS if split == own else f"results-{split}.json"


def folder_of(name: str, workdir: str) -> str:
    """Where the figures of a results file lie: figures/ of results.json, figures-val/ of results-val.json."""
    return os.path.join(workdir, name.removesuffix(".json").replace("results", "figures", 1))


def write(results: dict, evaluation: Evaluation, data: Data, workdir: str, name: str = RESULTS) -> None:
    """Writes the results and the figures into a workdir, and prints the table."""
    writers.write_json(os.path.join(workdir, name), results)
    test = results["test"]
    rows = writers.read_rows(os.path.join(workdir, "metrics.jsonl"))
    validated = any("t2v" in row and row["split"] == results["config"]["data"]["val_split"] for row in rows)
    picked = "picked on validation" if validated else "the last; nothing was validated yet"
    print(f"\n{results['split']}, checkpoint of step {results['picked_step']} ({picked})\n{table(test)}")
    if test["groups"]:
        print(f"groups: {test['groups_are']}")
    print(f"\n{more_tables(results)}")
    if test["gates"]:
        print(f"\nmean absolute gates by kind of clip\n{gate_lines(test['gates'])}")
    if test["gallery"]["failed"]:
        print(f"\n{len(test['gallery']['failed'])} videos of the gallery failed to decode and rank last")
    folder = folder_of(name, workdir)
    figures = plots.write_all(rows, results, evaluation, data, folder)
    print(f"\n{os.path.join(workdir, name)} and {len(figures)} figures in {folder}")


def _agreement(mine: dict, stored: dict | None, name: str) -> str:
    """How a new evaluation compares with the results that the run left, in words."""
    if stored is None:
        return f"the run has left no {name} of this step to compare with"
    changed = []
    for direction in ("t2v", "v2t"):
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
    run = runs.open_run(workdir, data_dir, split)
    split = run.config.data.test_split
    name = name_of(run.data, split, workdir)
    path = Path(workdir) / name
    stored = writers.read_json(path) if path.exists() else None
    if stored and (stored["picked_step"] != run.step or stored["split"] != split):
        stored = None  # the run went on since
    evaluation = assess(run.evaluator, run.params, split, bank_split=run.bank_split)
    picked = {name: evaluation.results[name] for name in ("t2v", "v2t")} | {"step": run.step}
    made = results(
        run.config,
        evaluation,
        data=run.data,
        checkpoints=(stored or {}).get("checkpoints", {}) | {"picked on validation": picked},
        params_sha256=(stored or {}).get("params_sha256", ""),
    )
    rows = writers.read_rows(os.path.join(workdir, "metrics.jsonl"))
    agreement = _agreement(evaluation.results, stored, name)
    out = Path(workdir) / name.replace("results", "report", 1).replace(".json", ".html")
    out.write_text(page.render(run, evaluation, made, rows, queries, agreement), encoding="utf-8")
    return out


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m save_jax.report", description="A finished run as one HTML page.")
    parser.add_argument("workdir", help="folder of a run")
    parser.add_argument("--data_dir", help="folder of its shards, if they moved")
    parser.add_argument("--split", help="split to evaluate instead of the run's test split")
    parser.add_argument("--queries", type=int, default=40, help="queries to show, evenly over groups (%(default)s)")
    parser.add_argument("--open", action="store_true", help="open the page in a browser")
    arguments = parser.parse_args(argv)
    if arguments.queries < 1:
        parser.error(f"--queries is {arguments.queries}; show at least one")
    from save_jax import cli  # not above: importing it defines flags, and training imports this file

    cli.set_up_process()
    try:
        out = write_page(arguments.workdir, arguments.data_dir, arguments.split, arguments.queries)
    except ValueError as error:
        sys.exit(f"error: {error}")
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB, one file that needs no network")
    if arguments.open:
        webbrowser.open(out.resolve().as_uri())


if __name__ == "__main__":
    main()
