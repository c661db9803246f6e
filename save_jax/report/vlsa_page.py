"""A finished run of VLSA as one HTML page, as `page` makes of other methods: its evaluation in, the text out."""

from collections.abc import Sequence

import numpy as np

from save_jax.config.vlsa import DIRECTIONS, NAMES
from save_jax.evaluation.contract import Evaluation, Trained
from save_jax.evaluation.vlsa import cosines
from save_jax.models.trees import digest
from save_jax.report import cards, page, vlsa_plots, vlsa_tables

WORDS = {"video": "picture", "audio": "sound"}


def render(run: Trained, evaluation: Evaluation, results: dict, rows: list[dict], count: int, agreement: str) -> str:
    """The page. Arguments: as of `page.render`; `count` queries are divided over the directions."""
    test = results["test"]
    ranked = [direction for direction in DIRECTIONS if direction in test]
    shown = _cards(run, evaluation, ranked, count)
    return page.fill(
        "vlsa_page.html",
        pretrained=run.config.task == "vlsa-pretrain",
        validated=any(run.config.evaluation.pick in row for row in rows if row["split"] == run.config.data.val_split),
        picked_by=NAMES[run.config.evaluation.pick],
        run=run,
        results=results,
        test=test,
        chance=100 * min(1, 10 / max(1, test["protocol"]["videos"])),
        directions=[(NAMES[direction], test[direction]) for direction in ranked],
        intervals={NAMES[direction]: found for direction, found in test["intervals"].items()},
        groups=_rows(test.get("groups", {})),
        tags=_rows(test.get("tags", {})),
        units=vlsa_tables.UNITS,
        figures=_figures(evaluation, test, rows),
        cards=shown,
        params_sha256=digest(run.params),
        agreement=agreement,
    )


def _rows(found: dict[str, dict]) -> list[tuple[str, dict]]:
    return [
        (f"{NAMES[d]}, {name}", summary) for name, by_direction in found.items() for d, summary in by_direction.items()
    ]


def _figures(evaluation: Evaluation, test: dict, rows: list[dict]) -> dict[str, tuple[str, str]]:
    drawn = {}
    if any("loss" in row for row in rows):
        drawn["loss"] = (page.svg(vlsa_plots.losses(rows)), "training loss and its parts over steps")
    if any(direction in test for direction in DIRECTIONS):
        drawn["directions"] = (page.svg(vlsa_plots.directions(test)), "recalls of every direction")
    if evaluation.examples is not None:
        drawn["reconstructions"] = (
            page.svg(vlsa_plots.reconstructions(evaluation.examples)),
            "frames and spectrograms, their masked patches, and what was predicted",
        )
    return drawn


def _cards(run: Trained, evaluation: Evaluation, ranked: Sequence[str], count: int) -> list[cards.Card]:
    """Of the directions to clips, queries that can be answered; a sound or a picture is called by its clip."""
    source, info, clips = run.data.sources[run.config.data.test_split], evaluation.info, evaluation.videos
    asked_of = {}
    for direction in ranked:
        asked, found = NAMES[direction].split(" → ")
        if found == "text":
            continue
        if asked == "text":
            scores, right, queries = evaluation.scores[direction], info.caption_to_video, info.captions
        else:
            right = np.flatnonzero(np.abs(clips[asked]).max(axis=1) > 0)
            scores = cosines(clips[asked][right], clips[found])
            queries = [f"the {WORDS[asked]} of {info.ids[number]}" for number in right]
        answered = np.flatnonzero(np.abs(clips[found]).max(axis=1)[right] > 0)
        if len(answered):
            asked_of[direction] = scores[answered], right[answered], [queries[number] for number in answered]
    made = []
    for place, (direction, (scores, right, queries)) in enumerate(asked_of.items()):
        share = count // len(asked_of) + (place < count % len(asked_of))
        made += cards.make_plain(scores, right, queries, NAMES[direction], source, share)
    return made
