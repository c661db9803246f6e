"""The same experiment in several variants and seeds, side by side: `python -m save_jax.sweep --config … --workdir …`.

`--grid` names what varies: the methods, or one of the papers' ablations. Every run has its own folder under the workdir
(`save-seed0`, …), shared by all grids, and goes on where it stopped; finished ones are kept. Out come `GRID.json`,
`GRID.md` (a table of medians and spreads) and `GRID.png`.
"""

import itertools
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence

import jax
import numpy as np
from absl import app, flags
from ml_collections import ConfigDict

from save_jax import config as config_lib
from save_jax import sharding
from save_jax.data import files, pipeline, reader, records
from save_jax.methods import run as method_run
from save_jax.report import plots, results_file
from save_jax.training import flags as run_flags
from save_jax.training import monitor, process
from save_jax.training.workdir import FREE_SETTINGS, changed_shards

METRICS = ("R@1", "R@5", "R@10", "MedR", "SumR")
SAVE = {"model.branches": "vision,audio,speech"}
AVIGATE = {"model.branches": "vision,audio"}
VISION = {"model.branches": "vision"}
# Grid → variant → what it changes in the config. Orders are the tables'; the first of an ablation is what it ablates.
GRIDS = {
    "methods": {"vision": VISION, "avigate": AVIGATE, "save": SAVE},
    "branches": {
        "save": SAVE,
        "no-speech": AVIGATE | {"model.weights.avigate": (1.0, 0.5), "loss.albef.avigate": "pearson"},
        "no-audio": {"model.branches": "vision,speech"},
        "vision": VISION,
    },
    "albef": {"save": SAVE}
    | {f"albef-{kind}": SAVE | {"loss.albef.save": kind} for kind in ("none", "hard", "mse", "huber")},
    "weights": {"save": SAVE} | {f"weight-{w}": SAVE | {"model.weights.save": (1.0, w, w)} for w in (0.05, 0.25, 1.0)},
    "score": {
        "save": SAVE,
        "save-global": SAVE | {"model.score": "global"},
        "avigate": AVIGATE,
        "avigate-global": AVIGATE | {"model.score": "global"},
    },
}


def pairs(grid: str) -> list[tuple[str, str]]:
    """The variants of a grid that are compared: (what it is compared with, variant)."""
    names = list(GRIDS[grid])
    if grid == "methods":
        return list(itertools.pairwise(names))
    if grid == "score":
        return [("save", "save-global"), ("avigate", "avigate-global")]
    return [(names[0], name) for name in names[1:]]


# ---------------------------------------------------------------- the runs


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
    found = {name: [] for name in variants}
    seconds = {name: [] for name in variants}
    for number, (name, variant, folder, results) in enumerate(runs):
        if results is None:
            left = time_left(seconds, [run[0] for run in runs[number:] if run[3] is None])
            sharding.say(f"\nrun {number + 1} of {len(runs)}: {folder}{left}")
            begin = time.monotonic()
            results = method_run.train(variant, folder)
            seconds[name].append(time.monotonic() - begin)
        found[name].append(results)
    return found


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


# ---------------------------------------------------------------- the tables


def summarize(found: dict[str, list[dict]]) -> dict:
    """{variant: {"all" or group: {metric: {"median", "min", "max", "seeds": […]}}}}, text→video."""
    table = {}
    for name, runs in found.items():
        groups = ["all", *runs[0]["test"]["groups"]]
        table[name] = {}
        for group in groups:
            summaries = [(r["test"] if group == "all" else r["test"]["groups"][group])["t2v"] for r in runs]
            table[name][group] = {
                metric: {
                    "median": float(np.median([s[metric] for s in summaries])),
                    "min": min(s[metric] for s in summaries),
                    "max": max(s[metric] for s in summaries),
                    "seeds": [s[metric] for s in summaries],
                }
                for metric in METRICS
            }
    return table


def markdown(table: dict, seeds: list[int], pairs: Iterable[tuple[str, str]]) -> str:
    """Medians of text→video SumR by group with the range over seeds, recalls over all queries, and gains of `pairs`."""
    groups = list(next(iter(table.values())))
    lines = [
        f"Text→video on the test split, median of seeds {', '.join(map(str, seeds))} (smallest–largest).",
        "",
        "| | R@1 | R@5 | R@10 | SumR | " + " | ".join(f"SumR, {group}" for group in groups[1:]) + " |",
        "|---|" + "---|" * (3 + len(groups)),
    ]

    def cell(entry: dict) -> str:
        return f"{entry['median']:.1f} ({entry['min']:.1f}–{entry['max']:.1f})"

    for name, row in table.items():
        cells = [cell(row["all"][metric]) for metric in ("R@1", "R@5", "R@10", "SumR")]
        cells += [cell(row[group]["SumR"]) for group in groups[1:]]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines.append("")
    for first, second in pairs:
        gains = {g: table[second][g]["SumR"]["median"] - table[first][g]["SumR"]["median"] for g in groups}
        spread = max(table[n]["all"]["SumR"]["max"] - table[n]["all"]["SumR"]["min"] for n in (first, second))
        line = f"- {second} over {first}: {gains['all']:+.1f} SumR, spread between seeds {spread:.1f}"
        if groups[1:]:
            line += "; by group " + ", ".join(f"{g} {gains[g]:+.1f}" for g in groups[1:])
            # Of a whole that gains or loses, the group that does so most.
            lost = gains["all"] < 0
            most = (min if lost else max)(groups[1:], key=gains.get)
            if gains[most] and (gains[most] < 0) == lost:
                line += f"; largest{' loss' if lost else ''} for {most}"
        lines.append(line + ".")
    return "\n".join(lines) + "\n"


def gates_markdown(runs: list[dict]) -> str:
    """Median over seeds of the mean absolute gates, by kind of clip, of one variant."""
    gates = [run["test"]["gates"] for run in runs]
    columns = [(branch, kind) for branch in gates[0] for kind in ("attention", "mlp")]
    lines = [
        "| clips | number | " + " | ".join(f"{branch}, {kind} gate" for branch, kind in columns) + " |",
        "|---|---|" + "---|" * len(columns),
    ]
    for tag, row in gates[0][columns[0][0]].items():
        medians = [np.median([g[branch][tag][kind] for g in gates]) for branch, kind in columns]
        lines.append(f"| {tag} | {row['clips']} | " + " | ".join(f"{value:.2f}" for value in medians) + " |")
    return "\n".join(lines) + "\n"


flags.adopt_module_key_flags(run_flags)  # --help shows those, too
SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds of every variant; config.seed has no effect.")
GRID = flags.DEFINE_enum("grid", "methods", list(GRIDS), "What varies: the methods, or one of the papers' ablations.")


@flags.validator("seeds", "different whole numbers are needed, such as 0,1,2")
def _are_seeds(seeds: list[str]) -> bool:
    return all(seed.isdecimal() for seed in seeds) and 0 < len(set(map(int, seeds))) == len(seeds)


def main(argv: list[str]) -> None:
    """The command line."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    process.set_up_process()
    run_flags.join_processes()
    seeds, grid, workdir = [int(seed) for seed in SEEDS.value], GRID.value, run_flags.WORKDIR.value
    try:
        found = run_all(run_flags.CONFIG.value, workdir, seeds, GRIDS[grid])
    except (ValueError, monitor.TrainingError) as error:
        sys.exit(f"error: {error}")
    if jax.process_index():
        return
    table = summarize(found)
    text = markdown(table, seeds, pairs(grid))
    for name, runs in found.items():
        if grid == "methods" and runs[0]["test"]["gates"]:
            text += (
                f"\nMean absolute gates of {name} by kind of clip, median of the same seeds.\n\n{gates_markdown(runs)}"
            )
    files.write_json(os.path.join(workdir, f"{grid}.json"), table)
    with open(os.path.join(workdir, f"{grid}.md"), "w") as file:
        file.write(text)
    plots.save(plots.sweep(table), os.path.join(workdir, f"{grid}.png"))
    print("\n" + text)
