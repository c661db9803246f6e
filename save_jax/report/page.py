"""A finished run as one HTML page: its evaluation in, the text of the page out.

Everything is inline, and the page's own content security policy forbids the rest: no address is asked for anything, and
a caption that holds markup stays text. The template is page.html, with page.css and page.js (the filter) beside it.
"""

import base64
import hashlib
import io
from importlib import resources

import jinja2
import matplotlib
import numpy as np
from matplotlib.figure import Figure

from save_jax.config import method
from save_jax.data import split_info
from save_jax.evaluation import breakdown
from save_jax.evaluation.contract import Evaluation, Trained
from save_jax.models.trees import digest
from save_jax.report import cards, plots
from save_jax.report.tables import METRICS

_NO_QUERY = "no query"


def confusion(
    scores: np.ndarray, caption_to_video: np.ndarray, groups: list[str]
) -> tuple[list[str], dict[str, list[float]]]:
    """Of failed queries, by group: which group asks for the video that was wrongly ranked first.

    A video whose own queries are of several groups counts in each by its share.

    Args:
        scores: float [queries, videos]; caption_to_video: the right video of each query; groups: of the queries.
    Returns:
        Names of the columns, and {group of the failed queries: their number in each column}. The last row, "all
        videos", counts every video, which is what a ranking without sense would repeat.
    """
    names = sorted(set(groups))
    shares = np.zeros((scores.shape[1], len(names) + 1))
    np.add.at(shares, (caption_to_video, np.array([names.index(group) for group in groups])), 1)
    shares[shares.sum(axis=1) == 0, -1] = 1
    shares /= shares.sum(axis=1, keepdims=True)
    # An equal score counts against the query, as in its rank.
    others = scores.copy()
    np.put_along_axis(others, caption_to_video[:, None], -np.inf, axis=1)
    own = np.take_along_axis(scores, caption_to_video[:, None], axis=1)[:, 0]
    first, failed = others.argmax(axis=1), others.max(axis=1) >= own
    table = {name: shares[first[failed & (np.array(groups) == name)]].sum(axis=0) for name in names} | {
        "all videos": shares.sum(axis=0)
    }
    kept = slice(None) if shares[:, -1].any() else slice(-1)
    return [*names, _NO_QUERY][kept], {name: row[kept].tolist() for name, row in table.items()}


def kinds(info: split_info.SplitInfo) -> dict[str, np.ndarray]:
    """Kinds of clips, {name: bool [videos]}: by tag, or by what they have where the corpus has no tags."""
    if tagged := split_info.members(info.tags):
        return tagged
    speech = np.array([bool(text) for text in info.transcripts])
    members = {"sound": info.sound, "no sound": ~info.sound, "speech": speech, "no speech": ~speech}
    return {name: member for name, member in members.items() if member.any()}


def _signed(value: float) -> str:
    text = f"{value:+.1f}".replace("-", "−")
    return "0.0" if text[1:] == "0.0" else text


def svg(figure: Figure) -> str:
    """A figure as data URI."""
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "save_jax"}):  # the same figure, the same bytes
        figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def figures(run: Trained, evaluation: Evaluation, groups: list[str], rows: list[dict]) -> dict[str, tuple[str, str]]:
    """{name: (data URI, what it shows)}, as far as there is something to show."""
    drawn, val_split = {}, run.config.data.val_split
    if any("loss" in row for row in rows):
        drawn["loss"] = (svg(plots.loss(rows)), "training loss over steps")
    if any("t2v" in row and row["split"] == val_split for row in rows):
        drawn["recalls"] = (
            svg(plots.recalls_over_time(rows, run.step, val_split)),
            f"text to video recalls on {val_split} over steps, with the step picked",
        )
    drawn["scores"] = (
        svg(plots.heat_map(evaluation.scores["t2v"], evaluation.info.caption_to_video, groups)),
        "scores of all queries and videos, ordered by group; right pairs lie on the diagonal",
    )
    if evaluation.gates:
        drawn["gates"] = (
            svg(plots.gate_histograms(evaluation.gates, kinds(evaluation.info))),
            "how many clips of each kind open the attention gates how far",
        )
    return drawn


def fill(template: str, **values: object) -> str:
    """A template of this package with its values, and with page.css and page.js in it."""
    loader = jinja2.PackageLoader("save_jax.report", ".")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["metric"] = lambda value, name: f"{value:.3f}" if name == "MRR" else f"{value:.1f}"
    environment.filters["signed"] = _signed
    files = resources.files("save_jax.report")
    style, script = (files.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    script_hash = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template(template).render(
        style=style, script=script, script_hash=script_hash, METRICS=METRICS, **values
    )


def render(run: Trained, evaluation: Evaluation, results: dict, rows: list[dict], count: int, agreement: str) -> str:
    """The page.

    Args:
        evaluation: from assessment.assess; results: as results_file.results makes them of it.
        rows: of metrics.jsonl.
        count: of queries to show.
        agreement: how the results compare with those that the run left.
    """
    info = evaluation.info
    groups = info.groups if any(info.groups) else breakdown.automatic_groups(info.captions)
    groups = [group or "no group" for group in groups]
    shown = cards.make(run, evaluation, groups, count)
    return fill(
        "page.html",
        method=method(run.config),
        run=run,
        results=results,
        test=results["test"],
        figures=figures(run, evaluation, groups, rows),
        confusion=confusion(evaluation.scores["t2v"], info.caption_to_video, groups),
        cards=shown,
        params_sha256=digest(run.params),
        validated=any("t2v" in row and row["split"] == run.config.data.val_split for row in rows),
        agreement=agreement,
    )
