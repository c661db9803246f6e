"""The figures of a run: loss, recalls over time and by group, gates, scores, queries with their top five."""

import os
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import simplejpeg
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from save_jax.data.pipeline import Data
from save_jax.evaluation.contract import Evaluation
from save_jax.judge.metrics import NOWHERE

RECALLS = ("R@1", "R@5", "R@10")
HEAT_MAP = 400  # points of a side
EXAMPLES = 8  # queries shown


def subplots(rows: int = 1, columns: int = 1, *, figsize: tuple[float, float], **settings: Any) -> tuple[Figure, Any]:
    """(figure, its axes or an array of them) as pyplot's, whose one backend of the process is left to the user."""
    figure = Figure(figsize=figsize)
    return figure, figure.subplots(rows, columns, **settings)


def loss(rows: list[dict]) -> Figure:
    """Loss and its parts over steps."""
    rows = [row for row in rows if "loss" in row]
    figure, axes = subplots(figsize=(7, 4))
    for name in ("loss", "contrastive", "albef"):
        if rows and name in rows[0]:
            axes.plot([row["step"] for row in rows], [row[name] for row in rows], marker=".", label=name)
    axes.set(xlabel="step", ylabel="loss", title="training loss", ylim=(0, None))
    axes.legend()
    return figure


def recalls_over_time(rows: list[dict], picked_step: int, split: str) -> Figure:
    """Text→video recalls of every validation, and the step that was picked."""
    rows = [row for row in rows if "t2v" in row and row["split"] == split]
    figure, axes = subplots(figsize=(7, 4))
    for name in RECALLS:
        axes.plot([row["step"] for row in rows], [row["t2v"][name] for row in rows], marker=".", label=name)
    axes.axvline(picked_step, color="grey", linestyle=":", label=f"picked: step {picked_step}")
    axes.set(xlabel="step", ylabel="percent", title=f"text→video recall, {split} split", ylim=(-2, 104))
    axes.legend()
    return figure


def recalls_by_group(test: dict) -> Figure:
    """Text→video recalls of all queries and of every group."""
    groups = {"all": test["t2v"]} | {name: group["t2v"] for name, group in test["groups"].items()}
    figure, axes = subplots(figsize=(7, 4))
    for offset, name in enumerate(RECALLS):
        bars = axes.bar(
            np.arange(len(groups)) + 0.27 * (offset - 1), [g[name] for g in groups.values()], 0.25, label=name
        )
        axes.bar_label(bars, fmt="%.0f", fontsize=8)
    axes.set_xticks(range(len(groups)), [f"{name}\n{group['queries']} queries" for name, group in groups.items()])
    axes.set(ylabel="percent", title="text→video recall by what the query is about", ylim=(0, 108))
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def gates(table: dict) -> Figure:
    """Mean absolute gates of each branch by kind of clip."""
    figure, panels = subplots(1, len(table), figsize=(5.5 * len(table), 4), squeeze=False, sharey=True)
    for axes, (branch, tags) in zip(panels[0], table.items(), strict=True):
        for offset, kind in enumerate(("attention", "mlp")):
            bars = axes.bar(
                np.arange(len(tags)) + 0.4 * (offset - 0.5), [row[kind] for row in tags.values()], 0.38, label=kind
            )
            axes.bar_label(bars, fmt="%.2f", fontsize=7)
        axes.set_xticks(range(len(tags)), [f"{tag}\n{row['clips']}" for tag, row in tags.items()], fontsize=8)
        axes.set(title=f"{branch} branch", ylim=(0, 1.05))
    panels[0][0].set_ylabel("mean absolute gate")
    panels[0][-1].legend(loc="upper left", bbox_to_anchor=(1, 1))
    figure.suptitle("how far the gates open, by kind of clip (number of clips below)")
    return figure


def heat_map(scores: np.ndarray, caption_to_video: np.ndarray, groups: Sequence[str]) -> Figure:
    """Scores of queries × videos, both ordered by the queries' groups: right pairs lie on the diagonal.

    Args:
        scores: float [queries, videos]; a video without any frame is left white.
        caption_to_video: int [queries], the right video of each; groups: of the queries.

    Where there are more than `HEAT_MAP` of either, a point is the highest score of its neighbours: a mean would hide
    the diagonal, which is one pair in many.
    """
    group_of = np.asarray(groups)
    rows = np.argsort(group_of, kind="stable")
    columns = list(dict.fromkeys(caption_to_video[rows].tolist()))
    columns += sorted(set(range(scores.shape[1])) - set(columns))
    grid = np.where(scores < NOWHERE, np.nan, scores)[rows][:, columns]
    for axis in (0, 1):
        if grid.shape[axis] > HEAT_MAP:
            starts = np.linspace(0, grid.shape[axis], HEAT_MAP, endpoint=False).astype(int)
            grid = np.fmax.reduceat(grid, starts, axis=axis)
    figure, axes = subplots(figsize=(6.5, 5.6))
    low, high = np.nanpercentile(grid, [1, 99.8]) if np.isfinite(grid).any() else (0, 1)
    extent = (0, scores.shape[1], len(rows), 0)
    shown = axes.imshow(grid, "magma", aspect="auto", interpolation="nearest", vmin=low, vmax=high, extent=extent)
    names, starts, counts = np.unique(group_of[rows], return_index=True, return_counts=True)
    axes.set_yticks(starts + counts / 2, names)
    for start in starts[1:]:
        axes.axhline(start, color="white", linewidth=0.7)
    axes.set(xlabel="videos, in the order of their queries", title="score of every query with every video")
    figure.colorbar(shown, extend="both", label="score")
    return figure


def gate_histograms(gates: dict[str, dict[str, np.ndarray]], kinds: dict[str, np.ndarray]) -> Figure:
    """How far clips of each kind open the attention gates: a column for each branch, a row for each kind.

    Args:
        gates: branch → "attention" → float [videos, layers]; a clip counts with the mean absolute gate of its layers.
        kinds: name → bool [videos], the clips of a kind.
    """
    size = (3.6 * len(gates), 0.75 * len(kinds) + 0.9)
    figure, panels = subplots(len(kinds), len(gates), figsize=size, squeeze=False, sharex=True)
    for column, (branch, values) in enumerate(gates.items()):
        opened = np.abs(values["attention"]).mean(axis=1)
        for row, (name, member) in enumerate(kinds.items()):
            axes = panels[row][column]
            axes.hist(opened[member], bins=np.linspace(0, 1, 26), color=f"C{column}")
            axes.axvline(opened[member].mean(), color="black", linestyle=":")
            axes.set(yticks=[], xlim=(0, 1))
            axes.spines[["top", "left", "right"]].set_visible(False)
            if column == 0:
                axes.set_ylabel(f"{name}\n{member.sum()} clips", rotation=0, ha="right", va="center", fontsize=8)
        panels[0][column].set_title(f"{branch} branch", fontsize=10)
        panels[-1][column].set_xlabel("mean absolute attention gate (dotted: mean)", fontsize=8)
    return figure


def _example_queries(evaluation: Evaluation, count: int) -> list[int]:
    """Evenly spaced captions of every group, so that the choice flatters nobody."""
    chosen = []
    names = sorted(set(evaluation.info.groups))
    for name in names:
        members = [i for i, group in enumerate(evaluation.info.groups) if group == name]
        positions = np.linspace(0, len(members) - 1, max(count // len(names), 1)).astype(int)
        chosen += [members[position] for position in dict.fromkeys(positions.tolist())]
    return chosen[:count]


def picture(frame: bytes, settings: Mapping) -> np.ndarray:
    """uint8 [side, side, 3] of a stored frame; `settings`: of its shard."""
    if settings["frames"] == "raw":
        return np.frombuffer(frame, np.uint8).reshape(settings["image_size"], settings["image_size"], 3)
    return simplejpeg.decode_jpeg(frame, "RGB")


def examples(evaluation: Evaluation, data: Data, split: str) -> Figure:
    """A few queries with the middle frames of their top five; the right video has a green frame."""
    source = data.sources[split]
    queries = _example_queries(evaluation, EXAMPLES)
    figure, panels = subplots(
        len(queries), 5, figsize=(9, 1.6 * len(queries)), squeeze=False, gridspec_kw={"hspace": 0.25, "wspace": 0.05}
    )
    for row, query in zip(panels, queries, strict=True):
        owner = evaluation.info.caption_to_video[query]
        order = np.argsort(-evaluation.scores["t2v"][query], kind="stable")
        rank = int((evaluation.scores["t2v"][query] >= evaluation.scores["t2v"][query, owner]).sum())
        for axes, video in zip(row, order[:5], strict=False):
            frames = source[int(video)].frames
            if frames:
                axes.imshow(picture(frames[len(frames) // 2], source.settings))
            right = video == owner
            axes.set_title(
                evaluation.info.ids[video], parse_math=False, fontsize=7, color="green" if right else "black"
            )
            axes.spines[:].set(color="limegreen" if right else "lightgrey", linewidth=4 if right else 1)
        for axes in row:
            axes.set(xticks=[], yticks=[])
        label = (
            textwrap.fill(f"{evaluation.info.groups[query]}: “{evaluation.info.captions[query]}”", 28)
            + f"\nright one: rank {rank}"
        )
        # A caption may hold dollar signs, which would start a formula.
        row[0].set_ylabel(label, parse_math=False, rotation=0, ha="right", va="center", fontsize=8)
    figure.suptitle("queries and the five videos ranked first", y=0.91, fontsize=9)
    return figure


def sweep(table: dict) -> Figure:
    """SumR of all queries and of every group by variant: bars are medians over seeds, dots the seeds."""
    groups = list(next(iter(table.values())))
    figure, axes = subplots(figsize=(8, 4.2))
    bars_of_seeds(axes, table, groups)
    axes.set_xticks(range(len(groups)), groups)
    axes.set(ylabel="SumR, text→video", title="bars: median of seeds, dots: seeds", ylim=(0, 300))
    axes.legend()
    return figure


def bars_of_seeds(axes: Axes, table: dict, groups: Sequence[str]) -> None:
    """SumR of each group and variant: a bar for the median, a dot for every seed, the median's number above them."""
    width = 0.8 / len(table)
    for place, (name, row) in enumerate(table.items()):
        at = np.arange(len(groups)) + width * (place - (len(table) - 1) / 2)
        values = [row[group]["SumR"] for group in groups]
        axes.bar(at, [value["median"] for value in values], 0.92 * width, label=name)
        for x, value in zip(at, values, strict=True):
            axes.plot([x] * len(value["seeds"]), value["seeds"], "k.", markersize=4)
            above = (x, max(value["seeds"]))
            # One digit more would run into the neighbour's number. Halves go up, as in schools and not as in Python.
            number = f"{int(value['median'] + 0.5)}" if value["median"] >= 100 else f"{round(value['median'], 1):g}"
            axes.annotate(number, above, (0, 4), textcoords="offset points", ha="center", fontsize=7)


def save(figure: Figure, path: str) -> None:
    """Writes a figure as PNG."""
    figure.savefig(path, dpi=110, bbox_inches="tight")


def write_all(rows: list[dict], results: dict, evaluation: Evaluation, data: Data, directory: str) -> list[str]:
    """Writes every figure as PNG and returns the paths."""
    os.makedirs(directory, exist_ok=True)
    figures = {
        "loss": loss(rows),
        "recalls": recalls_over_time(rows, results["picked_step"], results["config"]["data"]["val_split"]),
        "groups": recalls_by_group(results["test"]),
        "examples": examples(evaluation, data, results["split"]),
    }
    if results["test"]["gates"]:
        figures["gates"] = gates(results["test"]["gates"])
    paths = []
    for name, figure in figures.items():
        paths.append(os.path.join(directory, f"{name}.png"))
        save(figure, paths[-1])
    return paths
