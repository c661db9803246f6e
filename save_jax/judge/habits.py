"""What a score would have been under each habit of the field: how much of a published gain may be habit.

The honest number counts every query and every video, and ties against the query. None of these rows is a result.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from save_jax.judge import metrics
from save_jax.judge.metrics import Ranked, Scores

SHRUNK = 0.884  # of MSR-VTT 1k-A, 884 of 1,000 videos have a sound track
DRAWS = 20


@dataclasses.dataclass(frozen=True)
class DualSoftmax:
    """`metrics.dual_softmax` of a matrix of any size, made row by row."""

    scores: Scores
    scale: float
    highest: np.ndarray  # of each column, of scores × scale / temperature
    total: np.ndarray
    temperature: float = 3.0

    @property
    def shape(self) -> tuple[int, ...]:
        return self.scores.shape

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.float32)

    def __getitem__(self, rows: Any, /) -> np.ndarray:
        scaled = self.scale * np.asarray(self.scores[rows], np.float32)
        return scaled * np.exp(scaled / self.temperature - self.highest) / self.total


def dual_softmax(scores: Scores, temperature: float = 3.0) -> DualSoftmax:
    """Scores under dual softmax. Cosines (at most 1.5) are multiplied by 100 first, as its temperature presumes."""
    blocks = list(metrics.row_blocks(scores.shape))

    def read(rows: slice) -> np.ndarray:
        return np.asarray(scores[rows], np.float32)

    highest = np.max([read(rows).max(axis=0) for rows in blocks], axis=0)
    # Videos without any frame have scores far below, which say nothing of the scale.
    largest = max(float(np.abs(part[part > metrics.NOWHERE]).max(initial=0)) for part in map(read, blocks))
    scale = 100.0 if largest <= 1.5 else 1.0
    highest = scale * highest / temperature
    total = np.zeros_like(highest)
    for rows in blocks:
        total += np.exp(scale * read(rows) / temperature - highest).sum(axis=0)
    return DualSoftmax(scores, scale, highest, total, temperature)


def table(scores: Scores, ranked: Ranked, targets: np.ndarray) -> dict[str, dict]:
    """Text→video under each habit, by its name in words.

    Args:
        scores: float [queries, videos].
        ranked: its ranks.
        targets: int [queries].
    Returns:
        {"honest": metrics.summary, habit: metrics.summary, …}. Dropping rows is there with NaN alone, and dual
        softmax without.
    """
    t2v, videos = ranked.t2v, scores.shape[1]
    rows = {"honest": metrics.summary(t2v.at_least)}
    rows["ties count for the query"] = metrics.summary(np.minimum(t2v.above + 1, t2v.at_least))
    rows["every tied place is entered (sort and search)"] = metrics.summary(_every_place(t2v))
    rows[f"gallery shrunk to {SHRUNK:.1%} of the videos, at random"] = _shrunk(t2v.at_least, targets, videos)
    if broken := rows_with_nan(scores):
        kept = np.setdiff1d(np.arange(len(targets)), broken)
        if len(kept):
            rows[f"{len(broken)} queries with NaN dropped"] = metrics.summary(t2v.at_least[kept])
    else:
        rows["dual softmax over all queries of the test"] = metrics.summary(
            metrics.places(dual_softmax(scores), targets).at_least
        )
    return rows


def best_of(seeds: Sequence[np.ndarray]) -> dict[str, dict]:
    """The best of several seeds or checkpoints, picked on test: a row of the table; {} of one. `seeds`: their ranks."""
    if len(seeds) < 2:
        return {}
    best = max((metrics.summary(one) for one in seeds), key=lambda row: row["SumR"])
    return {f"the best of {len(seeds)} seeds or checkpoints, picked on test": best}


def _every_place(places: metrics.Places) -> np.ndarray:
    """The ranks that sorting a row and searching it for the right one's score gives: one for every tied candidate."""
    count = places.at_least - places.above
    within = np.arange(count.sum()) - np.repeat(count.cumsum() - count, count)
    return np.repeat(places.above, count) + within + 1


def _shrunk(ranks: np.ndarray, targets: np.ndarray, videos: int) -> dict[str, float]:
    """Mean over random galleries: the videos left out are neither candidates nor asked for."""
    rng, keep, rows = np.random.default_rng(0), max(1, round(SHRUNK * videos)), []
    for _ in range(DRAWS):
        kept = np.zeros(videos, bool)
        kept[rng.permutation(videos)[:keep]] = True
        asked = ranks[kept[targets]]
        if len(asked):  # of the videos that stand above the right one, those that were kept
            rows.append(metrics.summary(1 + rng.hypergeometric(asked - 1, videos - asked, keep - 1)))
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def rows_with_nan(scores: Scores) -> list[int]:
    """Numbers of the queries that have a score of NaN."""
    broken = []
    for rows in metrics.row_blocks(scores.shape):
        broken += (rows.start + np.flatnonzero(np.isnan(np.asarray(scores[rows])).any(axis=1))).tolist()
    return broken
