"""What `bench all` measured, beside what is asked for: a table of (what, measured, asked for, reached)."""

from typing import Any

from save_jax.bench.step import NAMES, milliseconds

GOALS_FOR = "H200"  # the device that the goals below are set for, at batch 128
STEP = {"none": 150, "ast": 85, "towers": 12}  # milliseconds
START = {"cold": 60, "warm": 15}  # seconds from a process's start to its first step done
TWIN = 1.2  # times as fast as the PyTorch twin, at least
TOP_K = 1.5  # times its floor, at most
Row = dict[str, str]


def of_parts(found: dict, goals: bool) -> list[Row]:
    """The table's rows.

    Args:
        found: what `bench all` writes: {"machine", "parts": {name: {"figures"}, {"failed"} or {"left_out"}}}.
        goals: whether sizes are those that goals are set for; the device is looked at, too.
    """
    parts, rows = found["parts"], []
    judged = goals and GOALS_FOR in found["machine"]["device_kind"]

    def add(what: str, measured: str, goal: str = "", reached: bool | None = None, everywhere: bool = False) -> None:
        verdict = "yes" if reached else "NO"
        if reached is None or not (judged or everywhere):
            verdict = "" if reached is None else "not judged"
        rows.append({"what": what, "measured": measured, "asked": goal, "reached": verdict})

    def missing(part: str) -> str:
        why = parts.get(part, {"left_out": "not asked for"})
        return f"not measured: {why['failed']}" if "failed" in why else f"not measured: {why.get('left_out', '')}"

    best: dict[str, float] = {}  # milliseconds by cache
    for part in [name for name in parts if name.startswith("step ")]:
        _, cache, attention = part.split()
        what, goal = f"step, {NAMES[cache]}, {attention}", f"<= {STEP[cache]} ms"
        if step := _row(parts[part]):
            median = 1e3 * step["step"]["median"]
            best[cache] = min(median, best.get(cache, median))
            share, memory = f"{step['share_of_matrix_rate']:.0%} of the matrix rate", f"{step['bytes'] / 2**30:.2f} GiB"
            add(what, f"{milliseconds(step['step'])} ms, {share}, {memory}", goal, median <= STEP[cache])
        else:
            add(what, missing(part), goal)
        start = f"start {cache} {attention}"
        cold = step["first_step"] if step else None
        warm = parts.get(start, {}).get("figures", {}).get("first_step")
        told = [f"cold {cold:.1f} s" if cold else f"cold {missing(part)}"]
        told += [f"warm {warm:.1f} s" if warm else f"warm {missing(start)}"]
        reached = cold <= START["cold"] and warm <= START["warm"] if cold and warm else None
        goal = f"<= {START['cold']} s, {START['warm']} s"
        add(f"first step, {NAMES[cache]}, {attention}", ", ".join(told), goal, reached)
    for part in [name for name in parts if name.startswith("twin ")]:
        _, cache, *compiled = part.split()
        what = ", ".join(["beside the twin", NAMES[cache], *compiled])
        add(what, *_of_twin(_row(parts[part]) or {}, best.get(cache), missing(part)))
    if "memory" in parts:
        told = [
            f"remat {row['remat']} {row['bytes_compiled'] / 2**30:.2f} GiB compiled"
            + (f", {row['run']['peak'] / 2**30:.2f} held" if (row["run"] or {}).get("peak") else "")
            for row in parts["memory"].get("figures", {}).get("rows", [])
        ]
        add(f"memory, {NAMES['none']}", "; ".join(told) or missing("memory"))
    for part in [name for name in parts if name.startswith("parity ")]:
        if files := parts[part].get("figures", {}).get("files"):
            lines, failed = (sum(file[name] for file in files) for name in ("lines", "failed"))
            told = f"{lines - failed} of {lines} hold, in {', '.join(file['file'] for file in files)}"
            stopped = parts[part].get("failed") if not failed else None  # that some do not hold is a failure, too
            add(part, told + (f"; {stopped}" if stopped else ""), "all", not failed and not stopped, everywhere=True)
        else:
            add(part, missing(part), "all")
    if "top_k" in parts:
        if row := _row(parts["top_k"]):
            floors = ", ".join(f"{name} {1e3 * seconds:.1f}" for name, seconds in row["floors"].items())
            told = f"{milliseconds(row['top_k'])} ms, {row['over_floor']:.2f} times its floor ({floors})"
            add(f"top_k, {row['videos']:,} videos", told, f"<= {TOP_K} times", row["over_floor"] <= TOP_K)
        else:
            add("top_k", missing("top_k"), f"<= {TOP_K} times")
    return rows


def _row(part: dict) -> dict[str, Any] | None:
    """The one row of a bench's figures, if it came to it."""
    return next(iter(part.get("figures", {}).get("rows", [])), None)


def _of_twin(row: dict, ours: float | None, missing: str) -> tuple[str, str, bool | None]:
    """The line that compares a step with the fastest twin's; `ours` in milliseconds, of the faster attention."""
    goal, sides = f">= {TWIN} times as fast", row.get("sides", {})
    times = {name: 1e3 * side["median"] for name, side in sides.items() if "median" in side}
    if not times:
        failed = "; ".join(f"{name} failed: {side['failed']}" for name, side in sides.items() if "failed" in side)
        return f"not measured: {failed}" if failed else missing, goal, None
    fastest = min(times, key=lambda name: times[name])
    told = f"{fastest} {times[fastest]:.1f} ms"
    if ours is None:
        return f"{told}; ours not measured", goal, None
    return f"{told}: ours is {times[fastest] / ours:.2f} times as fast", goal, times[fastest] / ours >= TWIN


def as_text(rows: list[Row]) -> str:
    """The table, in columns."""
    rows = [{"what": "", "measured": "measured", "asked": f"asked of an {GOALS_FOR}", "reached": "reached"}, *rows]
    widths = {name: max(len(row[name]) for row in rows) + 2 for name in ("what", "asked")}
    return "\n".join(
        f"{row['what']:{widths['what']}}{row['asked']:{widths['asked']}}{row['reached']:12}{row['measured']}".rstrip()
        for row in rows
    )
