"""Retrieval metrics against arithmetic done by hand."""

import numpy as np
import pytest
import scipy.stats

from save_jax.judge import metrics

# Rows are queries, columns candidates; the right one of row i is column i.
SCORES = np.array([[0.9, 0.1, 0.3], [0.8, 0.7, 0.2], [0.5, 0.5, 0.5], [0.1, 0.9, 0.2]])


def test_ranks_by_hand_and_ties_count_against_the_query():
    # Row 0: best. Row 1: one above. Row 2: all tied, so last. Row 3 looks for candidate 2: one above.
    np.testing.assert_array_equal(metrics.ranks(SCORES, np.array([0, 1, 2, 2])), [1, 2, 3, 2])


def test_no_queries_have_no_ranks():
    assert metrics.ranks(np.zeros((0, 5)), np.zeros(0, int)).shape == (0,)


def test_summary_by_hand():
    found = metrics.summary(np.array([1, 2, 6, 11]))
    assert found == {
        "R@1": 25.0, "R@5": 50.0, "R@10": 75.0, "R@50": 100.0, "MedR": 4.0, "MeanR": 5.0,
        "MRR": (1 + 1 / 2 + 1 / 6 + 1 / 11) / 4, "SumR": 150.0, "queries": 4,
    }  # fmt: skip


def test_intervals_are_those_of_resampled_queries():
    """Against SciPy's bootstrap of the same statistic, and the textbook's formula for a share."""
    found = np.random.default_rng(0).geometric(0.1, 400)
    ours = metrics.intervals(found, np.arange(400))
    assert ours.keys() == metrics.summary(found).keys() - {"queries"}
    for name in ("R@5", "MedR", "MeanR", "MRR", "SumR"):
        peer = scipy.stats.bootstrap(
            (found,), lambda x, name=name: metrics.summary(x)[name], n_resamples=2000, vectorized=False, rng=1,
            method="percentile",
        ).confidence_interval  # fmt: skip
        width = peer.high - peer.low
        np.testing.assert_allclose(ours[name], [peer.low, peer.high], atol=0.12 * width)
    share = (found <= 5).mean()
    np.testing.assert_allclose(np.diff(ours["R@5"]), 2 * 1.96 * 100 * np.sqrt(share * (1 - share) / 400), rtol=0.08)


def test_intervals_of_equal_ranks_have_no_width():
    assert metrics.intervals(np.array([3, 3, 3]), np.arange(3))["MedR"] == [3.0, 3.0]


def test_captions_of_one_video_count_as_one_draw():
    """Twenty equal ranks a video tell no more than one."""
    found = np.random.default_rng(0).geometric(0.1, 100)
    once = metrics.intervals(found, np.arange(100))
    repeated = metrics.intervals(np.repeat(found, 20), np.repeat(np.arange(100), 20))
    assert once["R@5"][0] < once["R@5"][1]
    for name, interval in once.items():
        assert repeated[name] == pytest.approx(interval), name


def test_a_video_without_frames_stays_last_whatever_is_normalised():
    scores = np.array([[9, 8, -5e29], [9, 7, -5e29]], np.float32)
    for found in (metrics.dual_softmax(scores), metrics.querybank(scores, scores)):
        assert (found.argmin(axis=1) == 2).all()


def test_querybank_pushes_down_a_candidate_that_the_bank_likes():
    # Candidate 0 is a hub: every bank query likes it. The query prefers candidate 1 by a little less.
    scores, bank = np.array([[10.0, 9.0], [1.0, 8.0]]), np.array([[9.0, 2.0], [9.0, 1.0], [9.0, 3.0]])
    found = metrics.querybank(scores, bank)
    assert found[0].argmax() == 1
    np.testing.assert_array_equal(found[1], scores[1])  # its best is no hub: unchanged
    log_likes = np.log(np.exp(bank / 5).sum(axis=0))
    np.testing.assert_allclose(found[0], scores[0] / 5 - log_likes)


def test_several_captions_per_video_count_by_their_best():
    # Captions 0 and 2 belong to video 1, caption 1 to video 0.
    scores, caption_to_video = np.array([[0.1, 0.2], [0.6, 0.5], [0.3, 0.9]]), np.array([1, 0, 1])
    np.testing.assert_array_equal(metrics.ranks(scores, caption_to_video), [1, 1, 1])
    # Video 0: its caption 0.6 against video 1's best, 0.3. Video 1: its best 0.9 against 0.5.
    np.testing.assert_array_equal(metrics.video_to_text_ranks(scores, caption_to_video), [1, 1])
    scores[2, 1], scores[0, 1] = 0.4, 0.2
    np.testing.assert_array_equal(metrics.video_to_text_ranks(scores, caption_to_video), [1, 2])


def test_groups_keep_the_whole_gallery():
    found = metrics.retrieval(SCORES[:3], [0, 1, 2], ["vision", "sound", ""])
    assert found["groups"].keys() == {"vision", "sound"}
    assert found["groups"]["sound"]["t2v"]["MedR"] == 2  # video 0 still stands above it
    assert found["groups"]["vision"]["t2v"]["queries"] == found["groups"]["vision"]["v2t"]["queries"] == 1


def test_a_video_without_a_caption_stays_a_candidate_and_asks_nothing():
    scores = np.array([[0.2, 0.9, 0.1], [0.3, 0.9, 0.8]])  # nothing describes video 1, which every text likes best
    found = metrics.retrieval(scores, [0, 2], ["vision", "sound"])
    assert found["t2v"]["MedR"] == 2 and found["t2v"]["queries"] == 2
    assert found["v2t"]["queries"] == 2 and found["v2t"]["MedR"] == 1.5  # video 0 prefers the other's caption
    assert found["groups"]["sound"]["v2t"]["MedR"] == 1


def test_nan_is_refused():
    scores = SCORES.copy()
    scores[1, 2] = np.nan
    with pytest.raises(ValueError, match="1 of 12 scores are NaN or infinite, the first for query 1 and candidate 2"):
        metrics.ranks(scores, np.array([0, 1, 2, 2]))


def test_a_video_without_a_caption_is_refused():
    with pytest.raises(ValueError, match=r"videos \[1\] of the gallery have no caption"):
        metrics.video_to_text_ranks(np.zeros((2, 3)), np.array([0, 2]))
