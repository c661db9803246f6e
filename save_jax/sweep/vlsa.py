"""VLSA's ablation: pre-train without one or both of its objectives, fine-tune, test; over seeds.

    python -m save_jax.sweep_vlsa --config configs/vlsa_pretrain.py:demo --finetune configs/vlsa_finetune.py:demo \
        --workdir runs/vlsa --seeds 0,1,2

Every run has its own folder (`pretrain/both-seed0`, `finetune/both-seed0`, …) and goes on where it stopped; finished
ones are kept. Out come `ablation.json`, `ablation.md` and `ablation.png`.
"""

import itertools
import os
import sys
from collections.abc import Sequence

import jax
import numpy as np
from absl import app, flags
from ml_collections import ConfigDict, config_flags

from save_jax.config.vlsa import DIRECTIONS, MODALITIES, NAMES
from save_jax.data import files
from save_jax.report import plots, vlsa_plots
from save_jax.sweep import command, significance
from save_jax.sweep import runs as sweep_runs
from save_jax.training import flags as run_flags
from save_jax.training import monitor, process

# What pre-training leaves out; "neither" is fine-tuning from random weights.
PRETRAINED = {"masked": {"loss.matching": 0.0}, "matching": {"loss.masked": 0.0}, "both": {}}
VARIANTS = ("neither", *PRETRAINED)
METRICS = ("R@1", "R@5", "R@10", "SumR")
Results = dict[str, list[dict]]  # variant → results of every seed


def run_all(pretrain: ConfigDict, finetune: ConfigDict, workdir: str, seeds: Sequence[int]) -> tuple[Results, Results]:
    """(results of pre-training, results of fine-tuning). Trains what is not finished.

    Raises ValueError where a folder holds results of other settings or shards.
    """
    before: Results = {name: [] for name in PRETRAINED}
    after: Results = {name: [] for name in VARIANTS}
    for seed in seeds:
        first, second = os.path.join(workdir, "pretrain"), os.path.join(workdir, "finetune")
        starts = {name: {"init_from": os.path.join(first, f"{name}-seed{seed}")} for name in PRETRAINED}
        for name, runs in sweep_runs.run_all(pretrain, first, [seed], PRETRAINED).items():
            before[name] += runs
        for name, runs in sweep_runs.run_all(finetune, second, [seed], {"neither": {"init_from": ""}} | starts).items():
            after[name] += runs
    return before, after


def summarize(results: Results) -> dict:
    """{variant: {direction: {metric: {"median", "seeds": […]}}}}."""
    table = {}
    for name, runs in results.items():
        table[name] = {}
        for direction in DIRECTIONS:
            if all(direction in run["test"] for run in runs):
                values = {metric: [run["test"][direction][metric] for run in runs] for metric in METRICS}
                table[name][direction] = {
                    metric: {"median": float(np.median(seeds)), "seeds": seeds} for metric, seeds in values.items()
                }
    return table


def ordering(table: dict, direction: str, metric: str) -> tuple[bool, str]:
    """Whether neither < masked, matching < both in the medians, as the paper has it, and their order, in words."""
    median = {name: table[name][direction][metric]["median"] for name in VARIANTS}
    alone = (median["masked"], median["matching"])
    names = sorted(median, key=median.__getitem__)
    order = names[0]
    for before, name in itertools.pairwise(names):
        order += f" {'<' if median[before] < median[name] else '='} {name}"
    return median["neither"] < min(alone) and max(alone) < median["both"], order


def _cell(values: Sequence[float]) -> str:
    return f"{np.median(values):.1f} ({min(values):.1f}–{max(values):.1f})"


def markdown(table: dict, before: Results, seeds: Sequence[int]) -> str:
    """Medians and ranges of every direction, the order of the variants, and what pre-training alone has learned."""
    shown = [d for d in DIRECTIONS if d in table["both"]]  # those that fine-tuning brought together
    asked = [d for d in shown if d.startswith("t")]
    lines = [
        "SumR on the test split after fine-tuning, and zero-shot, before it: median of seeds "
        f"{', '.join(map(str, seeds))} (smallest–largest); R@1 of what texts find.",
        "",
        "| pre-trained with | " + " | ".join([NAMES[d] for d in shown] + [f"R@1 {d[0]}→{d[-1]}" for d in asked]) + " |",
        "|---|" + "---|" * (len(shown) + len(asked)),
    ]
    columns = [(d, "SumR") for d in shown] + [(d, "R@1") for d in asked]
    zero_shot = {f"{name}, zero-shot": results for name, results in summarize(before).items()}
    for name, found in (table | zero_shot).items():
        cells = [_cell(found[d][metric]["seeds"]) if d in found else "–" for d, metric in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines.append("")
    for direction in asked:
        for metric in ("SumR", "R@1"):
            holds, order = ordering(table, direction, metric)
            word = "as in the paper" if holds else "not the paper's order"
            lines.append(f"- {NAMES[direction]}, {metric}: {order} ({word}).")
    lines += ["", *_zero_shot_of_tags(before)]
    parts = [part for part in MODALITIES if part in before["both"][0]["test"]["masked"]]
    lines += [
        "",
        "Errors on masked tokens of the test split, median of the same seeds: squared error of patches, nats a word.",
        "",
        "| pre-trained with | " + " | ".join(parts) + " |",
        "|---|" + "---|" * len(parts),
    ]
    for name in ("masked", "both"):
        cells = [float(np.median([run["test"]["masked"][part]["model"] for run in before[name]])) for part in parts]
        lines.append(f"| {name} | " + " | ".join(f"{cell:.3f}" for cell in cells) + " |")
    constant = [before["both"][0]["test"]["masked"][part]["mean predictor"] for part in parts]
    lines.append("| mean predictor | " + " | ".join(f"{cell:.3f}" for cell in constant) + " |")
    return "\n".join(lines) + "\n"


def _zero_shot_of_tags(before: Results) -> list[str]:
    """A table of R@10 between sounds and pictures before fine-tuning, of the clips of each tag, beside chance."""
    test, every = before["both"][0]["test"], [run["test"].get("tags", {}) for runs in before.values() for run in runs]
    columns = [(tag, d) for tag, found in sorted(test.get("tags", {}).items()) for d in found]
    if not all(every):
        return ["(Some runs have no results of clips by their tags, or are of a version that wrote none.)"]
    gallery = {d: test["gallery"][f"with_{NAMES[d].split(' → ')[1]}"] for _, d in columns}
    lines = [
        "Zero-shot R@10 of the clips with a tag, among all that have what is looked for; median (smallest–largest).",
        "",
        "| pre-trained with | " + " | ".join(f"{NAMES[d]}, {tag}" for tag, d in columns) + " |",
        "|---|" + "---|" * len(columns),
    ]
    for name, runs in before.items():
        cells = [_cell([run["test"]["tags"][tag][d]["R@10"] for run in runs]) for tag, d in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    chance = []
    for tag, d in columns:
        asked = {way: summary["queries"] for way, summary in test["tags"][tag].items()}  # sound alone is rarely there
        chance.append(f"{100 * min(1, 10 / gallery[d]) * min(asked.values()) / asked[d]:.1f}")
    return [*lines, "| chance | " + " | ".join(chance) + " |"]


def established(workdir: str, seeds: Sequence[int], direction: str) -> str:
    """Which pre-training is better than none in a direction from text, more than by chance, as a table."""
    pairs, name = [("neither", variant) for variant in PRETRAINED], NAMES[direction].replace(" ", "")
    try:
        found = significance.compare(os.path.join(workdir, "finetune"), seeds, pairs, direction)
    except ValueError as error:  # of runs of an earlier version
        return f"Whether differences of {name} are established is not said: {error}.\n"
    return significance.markdown(found, seeds, name)


flags.adopt_module_key_flags(run_flags)  # --help shows those, too
FINETUNE = config_flags.DEFINE_config_file("finetune", None, "The configuration of fine-tuning.")
flags.declare_key_flag("seeds")  # of the sweep's command


def main(argv: list[str]) -> None:
    """The command line."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    if FINETUNE.value is None:
        raise app.UsageError("--finetune is missing, such as --finetune=configs/vlsa_finetune.py:demo")
    if (tasks := (run_flags.CONFIG.value.task, FINETUNE.value.task)) != ("vlsa-pretrain", "vlsa-finetune"):
        sys.exit(
            f"error: --config and --finetune are of {tasks[0]} and {tasks[1]}, not of vlsa-pretrain, vlsa-finetune"
        )
    process.set_up_process()
    run_flags.join_processes()
    seeds, workdir = [int(seed) for seed in command.SEEDS.value], run_flags.WORKDIR.value
    assert workdir is not None  # a required flag
    try:
        before, after = run_all(run_flags.CONFIG.value, FINETUNE.value, workdir, seeds)
    except (ValueError, monitor.TrainingError) as error:
        sys.exit(f"error: {error}")
    if jax.process_index():
        return
    table, path = summarize(after), os.path.join(workdir, "ablation")
    text = markdown(table, before, seeds)
    for direction in [d for d in DIRECTIONS if d.startswith("t") and d in table["both"]]:
        text += "\n" + established(workdir, seeds, direction)
    files.write_json(f"{path}.json", table)
    with open(f"{path}.md", "w", encoding="utf-8") as file:
        file.write(text)
    plots.save(vlsa_plots.ablation(table), f"{path}.png")
    print("\n" + text)
