"""What a sweep found, as tables: medians and ranges over seeds, gains of one variant over another, gates."""

from collections.abc import Iterable

import numpy as np

METRICS = ("R@1", "R@5", "R@10", "MedR", "SumR")


def summarize(results: dict[str, list[dict]]) -> dict:
    """{variant: {"all" or group: {metric: {"median", "min", "max", "seeds": […]}}}}, text→video."""
    table = {}
    for name, runs in results.items():
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
            most = (min if lost else max)(groups[1:], key=gains.__getitem__)
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
