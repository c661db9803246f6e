"""Which differences of a sweep are more than chance: paired over the test's videos, and over seeds."""

import os
from collections.abc import Iterable, Sequence

from save_jax.judge.comparison import Difference, corrected
from save_jax.judge.scores import evaluate_scores
from save_jax.report import results_file


def compare(
    workdir: str, seeds: Sequence[int], pairs: Iterable[tuple[str, str]], direction: str = "t2v"
) -> dict[tuple[str, str], dict]:
    """{(variant, other): {"all" or group: Difference of `other` over `variant`}}, SumR of a direction from text.

    P-values are corrected for all of these together.

    Raises ValueError that names the runs without its scores: they were evaluated before those were written.
    """
    pairs, file = list(pairs), results_file.scores_of(results_file.RESULTS, direction)
    paths = {
        name: [os.path.join(workdir, f"{name}-seed{seed}", file) for seed in seeds] for pair in pairs for name in pair
    }
    if missing := [path for of_seeds in paths.values() for path in of_seeds if not os.path.exists(path)]:
        raise ValueError(
            f"{len(missing)} runs have no {file}, such as {missing[0]}; save-jax eval writes it, as training now does"
        )
    found: dict[tuple[str, str], dict[str, Difference]] = {}
    for other in dict.fromkeys(second for _, second in pairs):
        firsts = [first for first, second in pairs if second == other]
        made = evaluate_scores(paths[other], against={first: paths[first] for first in firsts})["comparisons"]
        for first in firsts:
            found[first, other] = {"all": made[first]["t2v"]} | made[first]["groups"]
    # All differences of the table are asked for at once.
    together = iter(corrected([d for rows in found.values() for d in rows.values()]))
    return {pair: {row: next(together) for row in rows} for pair, rows in found.items()}


def markdown(
    found: dict[tuple[str, str], dict[str, Difference]], seeds: Sequence[int], direction: str = "text→video"
) -> str:
    """A table: each pair in all queries and in each group, and whether the difference is established."""
    rows = list(next(iter(found.values())))
    lines = [
        f"Differences of SumR, {direction}, with 95 % intervals, over videos and seeds {', '.join(map(str, seeds))}; "
        "**bold**: established (p < 0.05, corrected).",
        "",
        "| | " + " | ".join(rows) + " |",
        "|---|" + "---|" * len(rows),
    ]
    for (first, other), differences in found.items():
        lines.append(f"| {other} over {first} | " + " | ".join(_cell(differences[row]) for row in rows) + " |")
    if len(seeds) == 1:
        lines += ["", "One seed: this is about these checkpoints, not about another training of the same variant."]
    return "\n".join(lines) + "\n"


def _cell(difference: Difference) -> str:
    low, high = difference.interval
    value = f"{difference.value:+.1f}"
    return f"{f'**{value}**' if difference.established else value} ({low:+.1f} to {high:+.1f})"
