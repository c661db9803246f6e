"""The same experiment in several variants and seeds, side by side: `python -m save_jax.sweep --config … --workdir …`.

`--grid` names what varies: the methods, or one of the papers' ablations. Every run has its own folder under the workdir
(`save-seed0`, …), shared by all grids, and goes on where it stopped; finished ones are kept. Out come `GRID.json`,
`GRID.md` (a table of medians and spreads) and `GRID.png`.
"""

import os
import sys

import jax
from absl import app, flags

from save_jax.data import files
from save_jax.report import plots
from save_jax.sweep import grids, runs, significance, tables
from save_jax.training import flags as run_flags
from save_jax.training import monitor, process

flags.adopt_module_key_flags(run_flags)  # --help shows those, too
SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds of every variant; config.seed has no effect.")
GRID = flags.DEFINE_enum(
    "grid", "methods", list(grids.GRIDS), "What varies: the methods, or one of the papers' ablations."
)


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
    assert workdir is not None  # a required flag
    try:
        results = runs.run_all(run_flags.CONFIG.value, workdir, seeds, grids.GRIDS[grid])
    except (ValueError, monitor.TrainingError) as error:
        sys.exit(f"error: {error}")
    if jax.process_index():
        return
    table = tables.summarize(results)
    text = tables.markdown(table, seeds, grids.pairs(grid))
    try:
        text += "\n" + significance.markdown(significance.compare(workdir, seeds, grids.pairs(grid)), seeds)
    except ValueError as error:  # of runs of an earlier version
        text += f"\nWhether differences are established is not said: {error}.\n"
    for name, of_seeds in results.items():
        if grid == "methods" and of_seeds[0]["test"]["gates"]:
            gates = tables.gates_markdown(of_seeds)
            text += f"\nMean absolute gates of {name} by kind of clip, median of the same seeds.\n\n{gates}"
    files.write_json(os.path.join(workdir, f"{grid}.json"), table)
    with open(os.path.join(workdir, f"{grid}.md"), "w", encoding="utf-8") as file:
        file.write(text)
    plots.save(plots.sweep(table), os.path.join(workdir, f"{grid}.png"))
    print("\n" + text)
