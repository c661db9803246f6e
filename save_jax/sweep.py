"""The same experiment in several variants and seeds, side by side: `python -m save_jax.sweep --config … --workdir …`.

Every run has its own folder under the workdir (`save-seed0`, …) and goes on where it stopped; finished ones are kept.
Out come `sweep.json`, `sweep.md` (a table of medians and spreads) and `sweep.png`.
"""

import itertools
import os
import sys

import numpy as np
from absl import app, flags
from ml_collections import ConfigDict

from save_jax import cli, plots, report, train, writers
from save_jax import config as config_lib

# Variants by name: what each changes in the config. The order is the table's.
METHODS = {name: {"model.branches": branches} for branches, name in config_lib.METHODS.items()}


def run_all(config: ConfigDict, workdir: str, seeds: list[int]) -> dict[str, list[dict]]:
    """Trains and evaluates what is not finished; variant → results of every seed."""
    found = {name: [] for name in METHODS}
    for seed in seeds:
        for name, changes in METHODS.items():
            variant = config.copy_and_resolve_references()
            variant.update_from_flattened_dict(changes | {"seed": seed})
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
                for metric in report.METRICS
            }
    return table


def markdown(table: dict, seeds: list[int]) -> str:
    """Medians of text→video SumR by group with the range over seeds, and recalls over all queries."""
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
    names = list(table)
    lines.append("")
    for weaker, stronger in itertools.pairwise(names):
        gains = {g: table[stronger][g]["SumR"]["median"] - table[weaker][g]["SumR"]["median"] for g in groups}
        spread = max(table[n]["all"]["SumR"]["max"] - table[n]["all"]["SumR"]["min"] for n in (weaker, stronger))
        largest = max(groups[1:], key=gains.get)
        lines.append(
            f"- {stronger} over {weaker}: {gains['all']:+.1f} SumR, spread between seeds {spread:.1f}; by group "
            + ", ".join(f"{g} {gains[g]:+.1f}" for g in groups[1:])
            + f"; largest for {largest}."
        )
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


def main(argv: list[str]) -> None:
    """The command line."""
    del argv
    cli.set_up_process()
    seeds = [int(seed) for seed in SEEDS.value]
    try:
        found = run_all(cli.CONFIG.value, cli.WORKDIR.value, seeds)
    except (ValueError, train.TrainingError) as error:
        sys.exit(f"error: {error}")
    table = summarize(found)
    text = markdown(table, seeds)
    for name, runs in found.items():
        if runs[0]["test"]["gates"]:
            text += (
                f"\nMean absolute gates of {name} by kind of clip, median of the same seeds.\n\n{gates_markdown(runs)}"
            )
    writers.write_json(os.path.join(cli.WORKDIR.value, "sweep.json"), table)
    with open(os.path.join(cli.WORKDIR.value, "sweep.md"), "w") as file:
        file.write(text)
    plots.save(plots.sweep(table), os.path.join(cli.WORKDIR.value, "sweep.png"))
    print("\n" + text)


if __name__ == "__main__":
    app.run(main, flags_parser=cli.parse_flags)
