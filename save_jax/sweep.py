"""The same experiment in several variants and seeds, side by side: `python -m save_jax.sweep --config … --workdir …`.

`--grid` names what varies: the methods, or one of the papers' ablations. Every run has its own folder under the workdir
(`save-seed0`, …), shared by all grids, and goes on where it stopped; finished ones are kept. Out come `GRID.json`,
`GRID.md` (a table of medians and spreads) and `GRID.png`.
"""

import itertools
import os
import sys
from collections.abc import Iterable, Mapping

import numpy as np
from absl import app, flags
from ml_collections import ConfigDict

from save_jax import cli, plots, report, train, writers
from save_jax import config as config_lib

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


def run_all(
    config: ConfigDict, workdir: str, seeds: list[int], variants: Mapping[str, Mapping]
) -> dict[str, list[dict]]:
    """Trains and evaluates what is not finished; variant → results of every seed."""
    found = {name: [] for name in variants}
    for seed in seeds:
        for name, changes in variants.items():
            variant = config.copy_and_resolve_references()
            variant.update_from_flattened_dict({**changes, "seed": seed})
            variant = config_lib.resolve(variant)
            folder = os.path.join(workdir, f"{name}-seed{seed}")
            path = os.path.join(folder, report.RESULTS)
            if os.path.exists(path):
                train.check_workdir(variant, folder)  # refuses results of another configuration
                results = writers.read_json(path)
            else:
                print(f"\n{folder}", flush=True)
                results = train.train(variant, folder)
            found[name].append(results)
    return found


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
            line += f"; largest for {max(groups[1:], key=gains.get)}"
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


SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds of every variant.")
GRID = flags.DEFINE_enum("grid", "methods", list(GRIDS), "What varies: the methods, or one of the papers' ablations.")


def main(argv: list[str]) -> None:
    """The command line."""
    del argv
    cli.set_up_process()
    seeds, grid, workdir = [int(seed) for seed in SEEDS.value], GRID.value, cli.WORKDIR.value
    try:
        found = run_all(cli.CONFIG.value, workdir, seeds, GRIDS[grid])
    except (ValueError, train.TrainingError) as error:
        sys.exit(f"error: {error}")
    table = summarize(found)
    names = list(table)
    text = markdown(
        table, seeds, itertools.pairwise(names) if grid == "methods" else [(names[0], n) for n in names[1:]]
    )
    for name, runs in found.items():
        if grid == "methods" and runs[0]["test"]["gates"]:
            text += (
                f"\nMean absolute gates of {name} by kind of clip, median of the same seeds.\n\n{gates_markdown(runs)}"
            )
    writers.write_json(os.path.join(workdir, f"{grid}.json"), table)
    with open(os.path.join(workdir, f"{grid}.md"), "w") as file:
        file.write(text)
    plots.save(plots.sweep(table), os.path.join(workdir, f"{grid}.png"))
    print("\n" + text)


if __name__ == "__main__":
    app.run(main, flags_parser=cli.parse_flags)
