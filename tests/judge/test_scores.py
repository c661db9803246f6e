"""Scores from anywhere: metrics by hand, protocols, and every way to hand in a wrong matrix."""

import subprocess
import sys

import numpy as np
import pytest

import save_jax
from save_jax.judge import metrics, protocols


def test_results_by_hand():
    """Three captions of two videos; the second is found second, the last ties and so counts as second."""
    scores = np.array([[0.9, 0.1], [0.2, 0.7], [0.5, 0.5]])
    results = save_jax.evaluate_scores(scores, caption_to_video=[0, 0, 1], groups=["a", "b", "a"])
    assert results["t2v"]["R@1"] == pytest.approx(100 / 3) and results["t2v"]["queries"] == 3
    assert results["v2t"]["queries"] == 2
    assert results["groups"]["a"]["t2v"]["R@1"] == 50 and results["groups"]["b"]["t2v"]["MedR"] == 2
    assert results["protocol"]["departures"] == ["no protocol was named"]
    low, high = results["intervals"]["t2v"]["R@1"]
    assert low <= 100 / 3 <= high


def test_a_protocol_knows_its_captions():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(1000, 1000))
    results = save_jax.evaluate_scores(scores, protocol="msrvtt-1k-a")
    assert results["protocol"] == {
        "name": "MSR-VTT 1k-A (JSFusion)", "short": "1k-A", "version": 1, "split": "test", "videos": 1000,
        "queries": 1000, "gallery": "", "texts": "", "departures": [],
    }  # fmt: skip
    assert results["t2v"] == metrics.retrieval(scores, np.arange(1000))["t2v"]
    several = rng.normal(size=(15000, 1500)).astype(np.float32)
    assert save_jax.evaluate_scores(several, protocol="vatex")["v2t"]["queries"] == 1500


SQUARE = np.eye(3)


@pytest.mark.parametrize(
    ("scores", "options", "message"),
    [
        (
            np.array([[1.0, np.nan], [0.0, 1.0]]),
            {},
            "1 of 4 scores are NaN or infinite, the first for query 0 and cand",
        ),
        (np.ones(3), {}, r"scores have shape \[3\], not \[captions, videos\]"),
        (np.ones((0, 3)), {}, "scores have shape"),
        (np.array([["a"]]), {}, "not real numbers"),
        (np.ones((4, 3)), {}, "4 rows for 3 videos of 1 caption each, not 3; say which caption is of which video"),
        (SQUARE, {"protocol": "msrvtt"}, "unknown protocol 'msrvtt'; choose one of .*msrvtt-1k-a"),
        (SQUARE, {"protocol": "msrvtt-1k-a"}, r"scores are of 3 videos, protocol msrvtt-1k-a .* gallery of 1000"),
        (np.ones((1500, 1500)), {"protocol": "vatex"}, "1500 rows for 1500 videos of 10 captions each, not 15000"),
        (SQUARE, {"caption_to_video": [0, 1]}, r"shape \[2\] and type int64, not one whole number for each of 3"),
        (SQUARE, {"caption_to_video": [0, 1, 3]}, "numbers from 0 to 3, not from 0 to 2"),
        (SQUARE, {"caption_to_video": [0.0, 1.0, 2.0]}, "type float64"),
        (SQUARE, {"groups": ["a"]}, "1 groups for 3 captions"),
    ],
)
def test_bad_input_says_both_sides(scores, options, message):
    with pytest.raises(ValueError, match=message):
        save_jax.evaluate_scores(scores, **options)


def test_every_protocol_can_be_named():
    for name in protocols.PROTOCOLS:
        with pytest.raises(ValueError, match="has a gallery of"):
            save_jax.evaluate_scores(np.eye(2), protocol=name)


def test_it_needs_no_jax():
    program = (
        "import sys, numpy, save_jax; save_jax.evaluate_scores(numpy.eye(4)); "
        "sys.exit(bool({'jax', 'flax', 'grain', 'transformers'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
