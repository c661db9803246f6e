"""Retrieval metrics of a score matrix, in NumPy.

A tie counts against the query: its rank is the number of candidates scored at least as high as the right one (1 is the
best). NaN is refused. The reference sorts and searches for the right one's value. There ties add entries, and a NaN
drops its query from the denominator; both make the result look better.
"""

from collections.abc import Sequence

import numpy as np

CUTOFFS = (1, 5, 10, 50)
SUMMED = (1, 5, 10)  # SumR, as the papers count it
RESAMPLES = 2000  # of the bootstrap
NOWHERE = -1e20  # lower scores are of videos without any frame; they stay last under every normalisation


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
        int [queries], from 1. Ties count against the query.
    """
    _check(scores)
    return (scores >= np.take_along_axis(scores, targets[:, None], axis=1)).sum(axis=1)


def best_captions(scores: np.ndarray, caption_to_video: np.ndarray) -> np.ndarray:
    """`scores` [captions, videos] → [videos, videos]: each video (row) against the best caption of each (column).

    Raises ValueError for a video without a caption: no caption could retrieve it.
    """
    videos = scores.shape[1]
    missing = np.setdiff1d(np.arange(videos), caption_to_video)
    if len(missing):
        raise ValueError(f"videos {missing[:5].tolist()} of the gallery have no caption")
    order = np.argsort(caption_to_video, kind="stable")
    starts = np.searchsorted(caption_to_video[order], np.arange(videos))
    ordered = scores if (np.diff(caption_to_video) >= 0).all() else scores[order]  # a copy may take a gigabyte
    return np.maximum.reduceat(ordered, starts, axis=0).T


def video_to_text_ranks(scores: np.ndarray, caption_to_video: np.ndarray) -> np.ndarray:
    """Every video ranks the captions of all videos. The best caption of each video counts."""
    return ranks(best_captions(scores, caption_to_video), np.arange(scores.shape[1]))


def dual_softmax(scores: np.ndarray, temperature: float = 3.0) -> np.ndarray:
    """Optional post-processing, `S · softmax(S / 3, over queries)`: a candidate that many queries like counts less.

    It uses all queries at once, so its metrics are reported beside the others, never in their place. It assumes scores
    above 0: a negative score gets better the fewer queries like its candidate.

    Args:
        scores: float [queries, candidates].
        temperature: the reference's 3, with scores of scale 100.
    """
    _check(scores)
    weights = scores / temperature
    weights = np.exp(weights - weights.max(axis=0, keepdims=True))
    return scores * weights / weights.sum(axis=0, keepdims=True)


def querybank(scores: np.ndarray, bank: np.ndarray, temperature: float = 5.0) -> np.ndarray:
    """Optional post-processing: querybank normalisation with the dynamic inverted softmax (QB-Norm, CVPR 2022).

    A candidate that many queries of a bank like counts less. Only queries whose best candidate is some bank query's
    best are changed.

    Args:
        scores: float [queries, candidates].
        bank: float [bank queries, candidates], scores of texts that are not the test's queries.
        temperature: scores are divided by it; 5 for scores of scale 100 is QB-Norm's β = 20 for cosines.
    Returns:
        float [queries, candidates]. A changed row holds logarithms: it ranks candidates, but cannot be compared with
        other rows, so this is for text→video alone.
    """
    _check(scores)
    _check(bank)
    hubs = np.zeros(scores.shape[1], bool)
    hubs[bank.argmax(axis=1)] = True
    changed = hubs[scores.argmax(axis=1)]
    shift = bank.max(axis=0)
    likes = np.log(np.exp((bank - shift) / temperature).sum(axis=0)) + shift / temperature
    normalised = np.where(shift < NOWHERE, scores, scores / temperature - likes)
    return np.where(changed[:, None], normalised, scores)


def summary(ranks: np.ndarray) -> dict[str, float]:
    """Metrics of ranks (int [queries], from 1).

    R@1, R@5, R@10, R@50 in percent, median and mean rank, mean reciprocal rank, SumR = R@1 + R@5 + R@10, and the number
    of queries.
    """
    recalls = {f"R@{k}": 100 * float((ranks <= k).mean()) for k in CUTOFFS}
    return recalls | {
        "MedR": float(np.median(ranks)),
        "MeanR": float(ranks.mean()),
        "MRR": float((1 / ranks).mean()),
        "SumR": sum(recalls[f"R@{k}"] for k in SUMMED),
        "queries": len(ranks),
    }


def intervals(
    ranks: np.ndarray, caption_to_video: np.ndarray, confidence: float = 0.95, seed: int = 0
) -> dict[str, list[float]]:
    """Bootstrap percentile intervals of every metric of `summary`: {metric: [low, high]}.

    Videos are drawn, each with all its queries. The captions of one video are not independent. Drawing them as if they
    were gives intervals two to three times too narrow for 20 captions per video.

    Args:
        ranks: int [queries], from 1.
        caption_to_video: int [queries], the video of each.
    """
    values, at = np.unique(ranks, return_inverse=True)
    video = np.unique(caption_to_video, return_inverse=True)[1]
    videos = video.max() + 1
    picks = np.random.default_rng(seed).multinomial(videos, np.full(videos, 1 / videos), RESAMPLES)
    draws = np.stack([np.bincount(at, weights=pick[video], minlength=len(values)) for pick in picks])
    number, upto = draws.sum(axis=1), draws.cumsum(axis=1)
    middle = [values[(upto > place[:, None]).argmax(axis=1)] for place in ((number - 1) // 2, number // 2)]
    of_draw = {f"R@{k}": 100 * draws @ (values <= k) / number for k in CUTOFFS} | {
        "MedR": np.mean(middle, axis=0),
        "MeanR": draws @ values / number,
        "MRR": draws @ (1 / values) / number,
    }
    of_draw["SumR"] = sum(of_draw[f"R@{k}"] for k in SUMMED)
    tails = [50 * (1 - confidence), 50 * (1 + confidence)]
    return {name: [float(edge) for edge in np.percentile(drawn, tails)] for name, drawn in of_draw.items()}


def retrieval(scores: np.ndarray, caption_to_video: Sequence[int] | np.ndarray, groups: Sequence[str] = ()) -> dict:
    """Both directions over the complete gallery, and per group of queries.

    Args:
        scores: float [captions, videos].
        caption_to_video: the video of each caption. A video without a caption is a candidate, but no query.
        groups: name of each caption's group, "" for none. A group's videos (video→text) are those of its captions.
    Returns:
        {"t2v": summary, "v2t": summary, "groups": {name: {"t2v": …, "v2t": …}}}
    """
    targets, names = np.asarray(caption_to_video), np.asarray(groups or [""] * len(caption_to_video))
    captioned, own = np.unique(targets, return_inverse=True)
    of_captioned = scores if len(captioned) == scores.shape[1] else scores[:, captioned]
    t2v, v2t = ranks(scores, targets), video_to_text_ranks(of_captioned, own)
    by_group = {
        str(name): {"t2v": summary(t2v[names == name]), "v2t": summary(v2t[np.unique(own[names == name])])}
        for name in np.unique(names[names != ""])
    }
    return {"t2v": summary(t2v), "v2t": summary(v2t), "groups": by_group}
