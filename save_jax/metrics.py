"""Retrieval metrics out of a score matrix, in NumPy.

A tie counts against the query: its rank is the number of candidates scored at least as high as the right one (1 is the
best). NaN is refused. The reference sorts and searches for the right one's value, so that ties add entries and a NaN
drops its query from the denominator; both flatter the result.
"""

from collections.abc import Sequence

import numpy as np

CUTOFFS = (1, 5, 10)


def _check(scores: np.ndarray) -> None:
    if not np.isfinite(scores).all():
        bad = np.argwhere(~np.isfinite(scores))
        raise ValueError(
            f"{len(bad)} of {scores.size} scores are NaN or infinite, the first for query {bad[0][0]} and candidate "
            f"{bad[0][1]}; the model's output is broken, a metric of it would mean nothing"
        )


def ranks(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Rank of each query's right candidate.

    Args:
        scores: float [queries, candidates].
        targets: int [queries], the right candidate of each.
    Returns:
        int [queries], from 1.
    """
    _check(scores)
    own = np.take_along_axis(scores, targets[:, None], axis=1)
    return (scores >= own).sum(axis=1)


def text_to_video_ranks(scores: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """Every caption ranks all videos. `scores` [captions, videos], `owners` [captions]: the video of each."""
    return ranks(scores, owners)


def video_to_text_ranks(scores: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """Every video ranks all videos' captions, a video's captions counting by their best.

    Raises ValueError for a video without a caption: it would have nothing to be found by.
    """
    videos = scores.shape[1]
    missing = np.setdiff1d(np.arange(videos), owners)
    if len(missing):
        raise ValueError(f"videos {missing[:5].tolist()} of the gallery have no caption")
    order = np.argsort(owners, kind="stable")
    starts = np.searchsorted(owners[order], np.arange(videos))
    best = np.maximum.reduceat(scores[order], starts, axis=0)  # [caption groups, videos]
    return ranks(best.T, np.arange(videos))


def summary(found: np.ndarray) -> dict[str, float]:
    """R@1, R@5, R@10 in percent, median and mean rank, SumR = R@1 + R@5 + R@10, and the number of queries."""
    recalls = {f"R@{k}": 100 * float((found <= k).mean()) for k in CUTOFFS}
    return recalls | {
        "MedR": float(np.median(found)),
        "MeanR": float(found.mean()),
        "SumR": sum(recalls.values()),
        "queries": len(found),
    }


def retrieval(scores: np.ndarray, owners: Sequence[int], groups: Sequence[str] = ()) -> dict:
    """Both directions over the complete gallery, and per group of queries.

    Args:
        scores: float [captions, videos].
        owners: the video of each caption.
        groups: name of each caption's group, "" for none. A group's videos (video→text) are those of its captions.
    Returns:
        {"t2v": summary, "v2t": summary, "groups": {name: {"t2v": …, "v2t": …}}}
    """
    owners, names = np.asarray(owners), np.asarray(groups or [""] * len(owners))
    t2v, v2t = text_to_video_ranks(scores, owners), video_to_text_ranks(scores, owners)
    by_group = {
        str(name): {"t2v": summary(t2v[names == name]), "v2t": summary(v2t[np.unique(owners[names == name])])}
        for name in np.unique(names[names != ""])
    }
    return {"t2v": summary(t2v), "v2t": summary(v2t), "groups": by_group}
