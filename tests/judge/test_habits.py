"""What habits add: by hand, and each against its own definition on a random matrix."""

import numpy as np
import pytest

import save_jax
from save_jax.judge import habits, metrics, signature


def table(scores):
    videos = np.arange(scores.shape[1])
    return habits.table(scores, metrics.both_directions(scores, videos, finite=False), videos)


def test_ties():
    """Query 0 ties with one candidate, query 1 with two below one, query 2 with none."""
    rows = table(np.array([[5, 5, 0, 0], [9, 7, 7, 7], [1, 2, 3, 0], [1, 1, 1, 9]]))
    assert rows["honest"]["MeanR"] == (2 + 4 + 1 + 1) / 4
    assert rows["ties count for the query"]["MeanR"] == (1 + 2 + 1 + 1) / 4
    every = rows["every tied place is entered (sort and search)"]
    assert every["queries"] == 7 and every["MeanR"] == pytest.approx((1 + 2 + 2 + 3 + 4 + 1 + 1) / 7)


def test_rows_with_nan():
    scores = np.eye(4) + np.arange(4) * 0.1
    scores[1] = np.nan
    rows = table(scores)
    assert rows["honest"]["queries"] == 4 and rows["1 queries with NaN dropped"]["queries"] == 3
    assert not any("softmax" in name for name in rows)


def test_a_smaller_gallery_is_easier_by_as_much_as_drawn_ones_are():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(400, 400)) + 2 * np.eye(400)
    found = table(scores)["gallery shrunk to 88.4% of the videos, at random"]
    drawn = []
    for _ in range(20):
        kept = rng.permutation(400)[:354]
        drawn.append(metrics.summary(metrics.ranks(scores[np.ix_(kept, kept)], np.arange(354)))["SumR"])
    assert found["SumR"] == pytest.approx(np.mean(drawn), abs=3 * np.std(drawn) / 20**0.5 + 0.5)
    assert found["SumR"] > table(scores)["honest"]["SumR"]


@pytest.mark.parametrize("scale", [1, 20])
def test_dual_softmax_is_that_of_whole_matrices(scale, monkeypatch):
    """In blocks of rows; cosines are multiplied by 100 first."""
    monkeypatch.setattr(metrics, "BLOCK", 70)
    scores = scale * np.random.default_rng(0).uniform(0, 1, (30, 20))
    whole = metrics.dual_softmax(scores * (100 if scale == 1 else 1))
    np.testing.assert_allclose(habits.dual_softmax(scores)[0:30], whole, rtol=1e-4)


def test_the_best_seed_stands_beside_the_mean():
    seeds = [np.random.default_rng(seed).normal(size=(9, 9)) for seed in (0, 1, 2)]
    found = save_jax.evaluate_scores(seeds, with_habits=True)
    alone = [save_jax.evaluate_scores(one, with_habits=True) for one in seeds]
    best = found["habits"]["the best of 3 seeds or checkpoints, picked on test"]["SumR"]
    assert best == max(one["t2v"]["SumR"] for one in alone) > found["habits"]["honest"]["SumR"] == found["t2v"]["SumR"]
    assert not any("best of" in name for name in alone[0]["habits"])


def test_nan_is_never_for_the_query_and_is_a_departure():
    scores = np.eye(5)
    scores[0], scores[1, 1], scores[2, 3] = np.nan, np.nan, np.nan
    found = save_jax.evaluate_scores(scores, nan="worst", with_habits=True)
    assert found["t2v"]["MeanR"] == (5 + 5 + 2 + 1 + 1) / 5 == found["habits"]["ties count for the query"]["MeanR"]
    assert found["protocol"]["departures"][-1] == "scores of 3 queries are NaN, which counts against them"
    assert found["ties"]["t2v"] == 0 and "|custom.1!|" in found["signature"]
    other = save_jax.evaluate_scores([np.eye(5), scores], nan="worst", with_habits=True, against={"b": scores})
    assert other["protocol"]["departures"] == found["protocol"]["departures"]
    assert not any("NaN" in name or "softmax" in name for name in other["habits"])  # of one of the seeds alone
    scores[4, 4] = np.inf
    with pytest.raises(ValueError, match="scores are NaN or infinite, the first for query 4 and candidate 4"):
        save_jax.evaluate_scores(scores, nan="worst")


def test_a_signature_tells_departures_and_cannot_be_broken():
    results = save_jax.evaluate_scores(np.eye(884), "msrvtt-1k-a", strict=False, picked_on="val", post="none")
    version = save_jax.__version__
    assert results["signature"] == f"save-jax|1k-A.1!|g884:?|q884:?|ties:worst|post:none|pick:val|v{version}"
    assert results["protocol"]["departures"] == ["the gallery has 884 videos, the protocol 1000"]
    with pytest.raises(ValueError, match=r"picked_on='val\|ties:best' cannot stand in a signature"):
        save_jax.evaluate_scores(np.eye(3), picked_on="val|ties:best")
    row = signature.latex_row("ours_50%", results)
    assert row.splitlines()[1].startswith(r"ours\_50\% & 100.0 & 100.0 & 100.0 & 1.0 & 100.0") and row.endswith(
        results["signature"]
    )
    assert f"version = {{{version}}}" in signature.bibtex()
