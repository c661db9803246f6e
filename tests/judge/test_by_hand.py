"""Twelve matrices whose ranks are worked out by hand, in both directions. Ties and NaN count against the query."""

from typing import NamedTuple

import numpy as np
import pytest

import save_jax


class Case(NamedTuple):
    scores: list
    videos: list  # the right one of each caption
    t2v: list  # ranks, of each caption
    v2t: list  # ranks, of each video that has a caption
    nan: str = "refuse"


NAN, INF = float("nan"), float("inf")
CASES = {
    "all first": Case([[9, 1, 1], [1, 9, 1], [1, 1, 9]], [0, 1, 2], [1, 1, 1], [1, 1, 1]),
    "all last": Case([[1, 2, 3], [4, 1, 5], [7, 8, 6]], [0, 1, 2], [3, 3, 3], [3, 3, 1]),
    "one swap": Case([[5, 6, 1], [6, 5, 1], [0, 0, 5]], [0, 1, 2], [2, 2, 1], [2, 2, 1]),
    "everything ties": Case([[0, 0, 0, 0]] * 4, [0, 1, 2, 3], [4, 4, 4, 4], [4, 4, 4, 4]),
    "one tie": Case(
        [[3, 3, 1], [2, 4, 4], [0, 0, 1]], [0, 1, 2], [2, 2, 1], [1, 1, 3]
    ),  # video 2: 1, 4 and 1 of its own
    "negative": Case([[-1, -2], [-1, -3]], [0, 1], [1, 2], [2, 2]),
    "captions of one video": Case([[1, 2], [3, 2], [0, 1]], [0, 0, 1], [2, 1, 1], [1, 2]),
    "captions out of order": Case([[1, 5], [6, 2], [4, 3]], [1, 0, 1], [1, 1, 2], [1, 1]),
    "a video without caption": Case([[2, 9, 1], [3, 9, 8]], [0, 2], [2, 2], [2, 1]),
    "one video": Case([[0.5]], [0], [1], [1]),
    "NaN as a candidate": Case([[5, NAN], [1, 9]], [0, 1], [2, 1], [1, 2], "worst"),
    "NaN of the right one": Case([[NAN, 1], [1, 9]], [0, 1], [2, 1], [2, 1], "worst"),
}


def summary(ranks: list) -> dict:
    """By the definition of each metric, without NumPy."""
    n = len(ranks)
    recall = {k: 100 * sum(r <= k for r in ranks) / n for k in (1, 5, 10, 50)}
    half = sorted(ranks)
    return {
        **{f"R@{k}": value for k, value in recall.items()},
        "MedR": (half[(n - 1) // 2] + half[n // 2]) / 2,
        "MeanR": sum(ranks) / n,
        "MRR": sum(1 / r for r in ranks) / n,
        "SumR": recall[1] + recall[5] + recall[10],
        "queries": n,
    }


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("name", CASES)
def test_numbers_are_those_worked_out_by_hand(name, dtype):
    case = CASES[name]
    results = save_jax.evaluate_scores(
        np.array(case.scores, dtype), caption_to_video=case.videos, nan=case.nan, with_habits=True
    )
    assert results["t2v"] == pytest.approx(summary(case.t2v))
    assert results["v2t"] == pytest.approx(summary(case.v2t))


def test_any_size_of_block_gives_the_same(monkeypatch):
    """Blocks of one row, of whole videos, and of everything; captions in order or not."""
    from save_jax.judge import metrics

    rng = np.random.default_rng(0)
    scores = rng.integers(0, 9, (53, 11)).astype(np.float32)  # with ties
    for videos in (np.sort(rng.integers(0, 10, 53)), rng.integers(0, 10, 53)):  # one video may have no caption
        found = []
        for block in (1, 20, 50, 100, 1 << 22):
            monkeypatch.setattr(metrics, "BLOCK", block)
            found.append(metrics.both_directions(scores, videos))
        for one in found[1:]:
            for field, other in zip(one[:2], found[0][:2], strict=True):
                np.testing.assert_array_equal(field, other)
        right = scores[np.arange(53), videos][:, None]
        np.testing.assert_array_equal(found[0].t2v.at_least, (scores >= right).sum(axis=1))
        np.testing.assert_array_equal(found[0].t2v.above, (scores > right).sum(axis=1))


def test_infinite_scores_are_refused_and_a_large_sum_is_not():
    with pytest.raises(ValueError, match="1 of 4 scores are NaN or infinite, the first for query 1 and candidate 0"):
        save_jax.evaluate_scores(np.array([[1, 2], [INF, 1]]))
    big = np.full((4, 4), 1e308) * np.eye(4)  # each row's sum is finite, all together are not
    assert save_jax.evaluate_scores(big)["t2v"]["R@1"] == 100
