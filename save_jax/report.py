"""What a finished run tells: results.json, a printed table, and the figures.

results.json:
  test: {t2v, v2t: {R@1, R@5, R@10 in percent, MedR, MeanR, SumR, queries}, groups: {name: {t2v, v2t}},
         gallery: {videos, captions, without_captions, without_sound, without_transcript, failed: {id: reason}},
         gates: {branch: {tag: {attention, mlp: mean absolute gate, clips}}}}
  split, picked_step: what was evaluated, and the step that validation picked
  params_sha256: of the parameters after the last step
  config, versions: all settings; packages, Python and devices
  data: corpus, settings and checksums of the shards
"""

import os

from ml_collections import ConfigDict

from save_jax import plots, writers
from save_jax.data.pipeline import Data
from save_jax.evaluate import Evaluation

RESULTS = "results.json"
METRICS = ("R@1", "R@5", "R@10", "MedR", "MeanR", "SumR")


def one_line(summary: dict) -> str:
    """A summary of one direction in one line."""
    return "  ".join(f"{name} {summary[name]:.1f}" for name in METRICS)


def results(config: ConfigDict, evaluation: Evaluation, *, picked_step: int, params_sha256: str, data: Data) -> dict:
    """The content of results.json."""
    return {
        "test": evaluation.results,
        "split": config.data.test_split,
        "picked_step": picked_step,
        "params_sha256": params_sha256,
        "config": config.to_dict(),
        "versions": writers.versions(),
        "data": {name: data.manifest[name] for name in ("corpus", "settings", "shards")},
    }


def table(test: dict) -> str:
    """Both directions and all groups as text."""
    rows = [("text → video", test["t2v"]), ("video → text", test["v2t"])]
    rows += [(f"text → video, {name}", group["t2v"]) for name, group in test["groups"].items()]
    width = max(len(name) for name, _ in rows)
    lines = [" " * width + "".join(f"{name:>9}" for name in METRICS) + "  queries"]
    lines += [
        name.ljust(width) + "".join(f"{summary[m]:9.1f}" for m in METRICS) + f"{summary['queries']:9d}"
        for name, summary in rows
    ]
    return "\n".join(lines)


def gate_lines(gates: dict) -> str:
    """Mean absolute gates by branch and kind of clip as text."""
    lines = []
    for branch, tags in gates.items():
        for tag, row in tags.items():
            lines.append(
                f"{branch:7} {tag:10} attention {row['attention']:.3f}  mlp {row['mlp']:.3f}  ({row['clips']} clips)"
            )
    return "\n".join(lines)


def write(results: dict, evaluation: Evaluation, data: Data, workdir: str, name: str = RESULTS) -> None:
    """Writes the results and the figures into a workdir, and prints the table."""
    writers.write_json(os.path.join(workdir, name), results)
    test = results["test"]
    rows = writers.read_rows(os.path.join(workdir, "metrics.jsonl"))
    picked = "picked on validation" if any("t2v" in row for row in rows) else "the last; nothing was validated yet"
    print(f"\n{results['split']}, checkpoint of step {results['picked_step']} ({picked})\n{table(test)}")
    if test["gates"]:
        print(f"\nmean absolute gates by kind of clip\n{gate_lines(test['gates'])}")
    if test["gallery"]["failed"]:
        print(f"\n{len(test['gallery']['failed'])} videos of the gallery failed to decode and rank last")
    figures = plots.write_all(rows, results, evaluation, data, os.path.join(workdir, "figures"))
    print(f"\n{os.path.join(workdir, name)} and {len(figures)} figures in {os.path.join(workdir, 'figures')}")
