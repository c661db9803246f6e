"""Results as text: one line, tables of both directions and groups, and what surrounds the headline."""

METRICS = ("R@1", "R@5", "R@10", "R@50", "MedR", "MeanR", "MRR", "SumR")


def one_line(summary: dict) -> str:
    """A summary of one direction in one line."""
    return "  ".join(f"{name} {summary[name]:.1f}" for name in ("R@1", "R@5", "R@10", "MedR", "SumR"))


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
    taken = [("as it is", test["t2v"])]
    taken += [(name, without["t2v"]) for name, without in test["without_modalities"].items()]
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


def whole(results: dict, rows: list[dict]) -> str:
    """All tables of a final evaluation; `rows`: of metrics.jsonl."""
    test = results["test"]
    validated = any("t2v" in row and row["split"] == results["config"]["data"]["val_split"] for row in rows)
    picked = "picked on validation" if validated else "the last; nothing was validated yet"
    text = f"{results['split']}, checkpoint of step {results['picked_step']} ({picked})\n{table(test)}"
    text += f"\ngroups: {test['groups_are']}" if test["groups"] else ""
    text += f"\n\n{more_tables(results)}"
    text += f"\n\nmean absolute gates by kind of clip\n{gate_lines(test['gates'])}" if test["gates"] else ""
    if failed := test["gallery"]["failed"]:
        text += f"\n\n{len(failed)} videos of the gallery failed to decode and rank last"
    return text
