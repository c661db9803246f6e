"""The metrics part of a parity check: recalls and ranks of golden score matrices, through `judge.metrics`.

Where that differs from the reference on purpose, the reference's way is here: reported metrics count ties against the
query, the reference counts every place that equal scores take; and its dual softmax for several captions of a video
is another one.
"""

from collections.abc import Iterator

import numpy as np

from save_jax.judge import metrics
from save_jax.parity.comparison import Row, compare, note, unknown

_NAMES = {"R1": "R@1", "R5": "R@5", "R10": "R@10", "MR": "MedR", "MeanR": "MeanR"}
_EXACT = 1e-12  # of percentages and means computed in float64 on either side
_FLOAT32 = 1e-6  # the reference's several-captions code takes percentages through float32

Arrays = dict[str, np.ndarray]


def is_mine(arrays: Arrays) -> bool:
    """Whether a golden file holds score matrices."""
    return any(name.endswith("/sim") for name in arrays)


def _scores(arrays: Arrays, case: str) -> np.ndarray:
    """A case's matrix: its own, or that of the case it post-processes, scaled."""
    if f"{case}/sim" in arrays:
        return arrays[f"{case}/sim"].astype(np.float64)
    plain, _, _ = case.partition("_dsl")
    return arrays[f"{plain}/sim"].astype(np.float64) * float(arrays[f"{plain}_dsl/scale"])


def _caption_to_video(arrays: Arrays, scores: np.ndarray) -> np.ndarray:
    if scores.shape[0] == scores.shape[1]:
        return np.arange(len(scores))
    fitting = [x for name, x in arrays.items() if name.endswith("/caption_video") and len(x) == len(scores)]
    return fitting[0].astype(int)


def _stacked(scores: np.ndarray, caption_to_video: np.ndarray) -> np.ndarray:
    """[captions, videos] → [videos, most captions, videos], padded with −∞, as the reference keeps them."""
    counts = np.bincount(caption_to_video)
    out = np.full((len(counts), counts.max(), scores.shape[1]), -np.inf)
    for video in range(len(counts)):
        out[video, : counts[video]] = scores[caption_to_video == video]
    return out


def ranks_for(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """As `metrics.ranks`, with ties counted for the query: one more than the candidates scored higher."""
    return 1 + (scores > np.take_along_axis(scores, targets[:, None], axis=1)).sum(axis=1)


def ranks_all(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """As the reference: a query with n candidates scored alike gives n entries, one for each place they take."""
    first, last = ranks_for(scores, targets), metrics.ranks(scores, targets)
    return np.concatenate([np.arange(a, b + 1) for a, b in zip(first, last, strict=True)])


def dual_softmax_of_prior(scores: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """`metrics.dual_softmax` with the softmax taken of `prior` instead of the scores.

    The reference's commented-out code for several captions per video passes the transposed matrix from video to text,
    a mistake that doubles its R@1.
    """
    weights = prior / 3.0
    weights = np.exp(weights - weights.max(axis=0, keepdims=True))
    return scores * weights / weights.sum(axis=0, keepdims=True)


def _dual_softmax_by_slot(scores: np.ndarray, caption_to_video: np.ndarray) -> np.ndarray:
    """The reference's dual softmax of several captions: over all videos' first captions, all second ones, …."""
    slot = np.array([np.sum(caption_to_video[:row] == video) for row, video in enumerate(caption_to_video)])
    out = np.empty_like(scores)
    for k in np.unique(slot):
        out[slot == k] = metrics.dual_softmax(scores[slot == k])
    return out


def _directed(
    case: str, direction: str, scores: np.ndarray, caption_to_video: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(scores, targets) of one direction of a case, post-processed as the case says."""
    several, dual = "multi" in case and not direction.startswith("square"), "_dsl" in case
    if direction.endswith("t2v"):
        if dual:
            scores = _dual_softmax_by_slot(scores, caption_to_video) if several else metrics.dual_softmax(scores)
        return scores, caption_to_video
    best = metrics.best_captions(scores, caption_to_video)
    if dual:
        transposed = several and "aligned" not in case
        best = dual_softmax_of_prior(best, best.T) if transposed else metrics.dual_softmax(best)
    return best, np.arange(len(best))


def rows(arrays: Arrays) -> list[Row]:
    """The table of a metrics file."""
    return [row for name, theirs in arrays.items() for row in _row(arrays, name, theirs)]


def _row(arrays: Arrays, name: str, theirs: np.ndarray) -> Iterator[Row]:
    case, _, what = name.partition("/")
    if what in ("sim", "scale", "caption_video"):
        return  # what the others are computed from
    scores = _scores(arrays, case)
    caption_to_video = _caption_to_video(arrays, scores)
    if what == "cut_off_points":
        yield compare(name, np.cumsum(np.bincount(caption_to_video)), theirs, 0)
    elif what == "stacked":
        ours = _stacked(scores, caption_to_video)
        absent = np.isneginf(ours)
        same = ours.shape == theirs.shape and (absent == np.isneginf(theirs)).all()
        yield compare(name, np.where(absent, 0, ours), np.where(absent, 0, theirs) if same else np.zeros(0), 0)
    elif what == "v2t_sim":
        yield compare(name, metrics.best_captions(scores, caption_to_video), theirs, 0)
    elif what == "t2v_caption_ranks0":
        yield compare(name, metrics.ranks(scores, caption_to_video) - 1, theirs, 0)
    elif what.endswith("_min_rank0"):
        directed = _directed(case, what.removesuffix("_min_rank0"), scores, caption_to_video)
        yield compare(name, ranks_for(*directed) - 1, theirs, 0)
    elif what.rpartition("/")[0].removeprefix("square_") in ("t2v", "v2t"):
        yield from _metric(arrays, name, theirs, scores, caption_to_video)
    else:
        yield unknown(name)


def _metric(
    arrays: Arrays, name: str, theirs: np.ndarray, scores: np.ndarray, caption_to_video: np.ndarray
) -> Iterator[Row]:
    case, direction, quantity = name.split("/")
    directed = _directed(case, direction, scores, caption_to_video)
    several = f"{case}/{direction}/Std_Rank" in arrays  # only the reference's several-captions code gives it
    places = ranks_all(*directed)
    if several and len(places) > len(scores):
        # The reference sorts equal scores in an order that differs from run to run: only the limits are certain.
        low, high = (_value(quantity, ranks(*directed), several) for ranks in (ranks_for, metrics.ranks))
        if quantity == "Std_Rank":
            yield note(f"{name}: {float(theirs):.4g}, in an order of ties that is not defined")
        else:
            nearest = np.clip(theirs, min(low, high), max(low, high))
            yield compare(f"{name} within {low:.4g} and {high:.4g}", nearest, theirs, _FLOAT32 * 100)
    elif quantity == "ranks0":
        yield compare(name, places - 1, theirs, 0)
    elif quantity == "Std_Rank" or quantity in _NAMES:
        tolerance = (_FLOAT32 if several else _EXACT) * max(float(theirs), 1)
        yield compare(name, _value(quantity, places, several), theirs, tolerance)
    else:
        yield unknown(name)


def _value(quantity: str, ranks: np.ndarray, several: bool) -> float:
    if quantity == "Std_Rank":
        return float(np.std(ranks))
    if quantity == "MR" and several:  # torch.median: the lower of the two in the middle
        return float(np.sort(ranks)[(len(ranks) - 1) // 2])
    return metrics.summary(ranks)[_NAMES[quantity]]
