"""Retrieval metrics of a score matrix, in NumPy.

A tie counts against the query: its rank is the number of candidates scored at least as high as the right one (1 is the
best). NaN is refused. The reference sorts and searches for the right one's value. There ties add entries, and a NaN
drops its query from the denominator; both make the result look better.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, NoReturn, Protocol

import numpy as np

CUTOFFS = (1, 5, 10, 50)
SUMMED = (1, 5, 10)  # SumR, as the papers count it
RESAMPLES = 2000  # of the bootstrap
BLOCK = 1 << 22  # scores that are looked at at once: 16 MB of float32
NOWHERE = -1e20  # lower scores are of videos without any frame; they stay last under every normalisation


class Scores(Protocol):
    """A matrix [queries, candidates] whose rows can be read: an array, a memory map, or `reading.Product`."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype: ...
    def __getitem__(self, rows: Any, /) -> Any: ...


class Places(NamedTuple):
    """Where the right candidate of each query stands: int64 [queries] each."""

    above: np.ndarray  # candidates that are not scored as low as the right one, or lower
    at_least: np.ndarray  # candidates with as high a score or a higher one, the right one among them: its rank


def _refuse_broken(count: int, size: int, first: tuple[int, int]) -> NoReturn:
    raise ValueError(
        f"{count} of {size} scores are NaN or infinite, the first for query {first[0]} and candidate {first[1]}; the "
        "model's output is broken, a metric of it would mean nothing"
    )


def _check(scores: np.ndarray) -> None:
    if not np.isfinite(scores).all():
        bad = np.argwhere(~np.isfinite(scores))
        _refuse_broken(len(bad), scores.size, (int(bad[0][0]), int(bad[0][1])))


def row_blocks(shape: tuple[int, ...], starts: np.ndarray | None = None) -> Iterator[slice]:
    """Slices of rows of about `BLOCK` numbers; with `starts`, only there a block begins."""
    at = np.arange(shape[0]) if starts is None else starts
    edges = np.append(at, shape[0])
    begin = 0
    while begin < shape[0]:
        upto = int(edges[max(np.searchsorted(edges, begin + max(1, BLOCK // shape[1]), side="right") - 1, 0)])
        if upto <= begin:  # one group alone is larger than a block
            upto = int(edges[np.searchsorted(edges, begin, side="right")])
        yield slice(begin, upto)
        begin = upto


def places(scores: Scores, targets: np.ndarray, finite: bool = True) -> Places:
    """Where the right candidates stand, reading `scores` in blocks of rows, once.

    Args:
        scores: float [queries, candidates].
        targets: int [queries], the right candidate of each.
        finite: whether scores must be. If not, NaN counts against the query on both sides: as a candidate it stands
            above the right one, and as the right one's score below all.
    Raises:
        ValueError for scores that are infinite, and for NaN where scores must be finite.
    """
    if not len(targets):
        return Places(np.zeros(0, np.int64), np.zeros(0, np.int64))
    found, broken, first = [], 0, (0, 0)
    for rows in row_blocks(scores.shape):
        block = np.asarray(scores[rows])
        # A sum is finite where all numbers are, and is made several times faster than a mask. It may overflow alone.
        with np.errstate(over="ignore", invalid="ignore"):
            total = block.sum(dtype=np.float64)
        if not np.isfinite(total) and not (whole := np.isfinite(block) | (np.isnan(block) & (not finite))).all():
            bad = np.argwhere(~whole)
            first = first if broken else (rows.start + int(bad[0][0]), int(bad[0][1]))
            broken += len(bad)
        elif not broken:
            right = np.take_along_axis(block, targets[rows, None], axis=1)
            found.append((np.count_nonzero(~(block <= right), axis=1), np.count_nonzero(~(block < right), axis=1)))
    if broken:
        _refuse_broken(broken, scores.shape[0] * scores.shape[1], first)
    return Places(*(np.concatenate(part) for part in zip(*found, strict=True)))


def ranks(scores: Scores, targets: np.ndarray) -> np.ndarray:
    """Rank of each query's right candidate.

    Args:
        scores: float [queries, candidates].
        targets: int [queries], the right candidate of each.
    Returns:
        int [queries], from 1. Ties count against the query.
    """
    return places(scores, targets).at_least


def best_captions(scores: np.ndarray, caption_to_video: np.ndarray) -> np.ndarray:
    """`scores` [captions, videos] → [videos, videos]: each video (row) against the best caption of each (column).

    Raises ValueError for a video without a caption: no caption could retrieve it.
    """
    caption_to_video = np.asarray(caption_to_video, np.int64)  # differences of unsigned numbers are never below 0
    _check_captioned(scores.shape[1], caption_to_video)
    order = np.argsort(caption_to_video, kind="stable")
    starts = np.searchsorted(caption_to_video[order], np.arange(scores.shape[1]))
    ordered = scores if (np.diff(caption_to_video) >= 0).all() else scores[order]  # a copy may take a gigabyte
    return np.maximum.reduceat(ordered, starts, axis=0).T


def _check_captioned(videos: int, caption_to_video: np.ndarray) -> None:
    missing = np.setdiff1d(np.arange(videos), caption_to_video)
    if len(missing):
        raise ValueError(f"videos {missing[:5].tolist()} of the gallery have no caption")


def video_to_text_places(scores: Scores, caption_to_video: np.ndarray, columns: np.ndarray | None = None) -> Places:
    """As `places`, of videos that rank the captions of all videos. The best caption of each video counts.

    `best_captions` in blocks of rows: of a matrix of any size, a few numbers for each video are kept.

    Args:
        scores: float [captions, videos], finite.
        caption_to_video: int [captions], the place in `columns` of each caption's video.
        columns: int [videos], those that have a caption. None: all.
    """
    columns = np.arange(scores.shape[1]) if columns is None else columns
    caption_to_video = np.asarray(caption_to_video, np.int64)  # differences of unsigned numbers are never below 0
    _check_captioned(len(columns), caption_to_video)
    in_order = bool((np.diff(caption_to_video) >= 0).all())
    order = np.argsort(caption_to_video, kind="stable")
    video_of_row = caption_to_video[order]
    starts = np.searchsorted(video_of_row, np.arange(len(columns)))
    every = len(columns) == scores.shape[1]

    def best() -> Iterator[tuple[int, np.ndarray]]:
        """First video of a block, and [videos of the block, videos]: the best caption of each for all videos."""
        for rows in row_blocks((len(order), scores.shape[1]), starts):
            block = np.asarray(scores[rows] if in_order else scores[order[rows]])
            block = block if every else block[:, columns]
            inside = starts[(starts >= rows.start) & (starts < rows.stop)] - rows.start
            yield int(video_of_row[rows.start]), np.maximum.reduceat(block, inside, axis=0)

    own = np.concatenate([np.diagonal(part, begin).copy() for begin, part in best()])  # views would hold all parts
    above, at_least = np.zeros(len(columns), np.int64), np.zeros(len(columns), np.int64)
    for _, part in best():
        above += np.count_nonzero(~(part <= own), axis=0)
        at_least += np.count_nonzero(~(part < own), axis=0)
    return Places(above, at_least)


def video_to_text_ranks(scores: Scores, caption_to_video: np.ndarray) -> np.ndarray:
    """Every video ranks the captions of all videos. The best caption of each video counts."""
    return video_to_text_places(scores, caption_to_video).at_least


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
    rng, pieces = np.random.default_rng(seed), []
    for begin in range(0, RESAMPLES, step := max(1, BLOCK // max(videos, len(values)))):
        picks = rng.multinomial(videos, np.full(videos, 1 / videos), min(step, RESAMPLES - begin))
        pieces.append(_of_draws(np.stack([np.bincount(at, pick[video], len(values)) for pick in picks]), values))
    of_draw = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
    of_draw["SumR"] = np.sum([of_draw[f"R@{k}"] for k in SUMMED], axis=0)
    tails = [50 * (1 - confidence), 50 * (1 + confidence)]
    return {name: [float(edge) for edge in np.percentile(drawn, tails)] for name, drawn in of_draw.items()}


def _of_draws(draws: np.ndarray, values: np.ndarray) -> dict[str, np.ndarray]:
    """Metrics of draws: how often each drew each of the ranks `values`, [draws, values]."""
    number, upto = draws.sum(axis=1), draws.cumsum(axis=1)
    middle = [values[(upto > place[:, None]).argmax(axis=1)] for place in ((number - 1) // 2, number // 2)]
    return {f"R@{k}": 100 * draws @ (values <= k) / number for k in CUTOFFS} | {
        "MedR": np.mean(middle, axis=0),
        "MeanR": draws @ values / number,
        "MRR": draws @ (1 / values) / number,
    }


class Ranked(NamedTuple):
    """Both directions of a matrix. Video→text has the videos that have a caption, in order."""

    t2v: Places
    v2t: Places
    captioned: np.ndarray  # int [videos with a caption], their columns
    own: np.ndarray  # int [captions], the place in `captioned` of each caption's video


def both_directions(scores: Scores, caption_to_video: Sequence[int] | np.ndarray, finite: bool = True) -> Ranked:
    """Ranks over the complete gallery. A video without a caption is a candidate, but no query.

    Raises ValueError for scores that are NaN or infinite, unless `finite` is False (see `places`).
    """
    targets = np.asarray(caption_to_video)
    captioned, own = np.unique(targets, return_inverse=True)
    t2v = places(scores, targets, finite)
    return Ranked(t2v, video_to_text_places(scores, own, captioned), captioned, own)


def summaries(ranked: Ranked, groups: Sequence[str] = ()) -> dict:
    """{"t2v": summary, "v2t": summary, "groups": {name: {"t2v": …, "v2t": …}}}; `groups` as in `retrieval`."""
    names = np.asarray(groups if len(groups) else [""] * len(ranked.own))
    t2v, v2t = ranked.t2v.at_least, ranked.v2t.at_least
    by_group = {
        str(name): {"t2v": summary(t2v[names == name]), "v2t": summary(v2t[np.unique(ranked.own[names == name])])}
        for name in np.unique(names[names != ""])
    }
    return {"t2v": summary(t2v), "v2t": summary(v2t), "groups": by_group}


def retrieval(scores: Scores, caption_to_video: Sequence[int] | np.ndarray, groups: Sequence[str] = ()) -> dict:
    """Both directions over the complete gallery, and per group of queries.

    Args:
        scores: float [captions, videos].
        caption_to_video: the video of each caption. A video without a caption is a candidate, but no query.
        groups: name of each caption's group, "" for none. A group's videos (video→text) are those of its captions.
    Returns:
        {"t2v": summary, "v2t": summary, "groups": {name: {"t2v": …, "v2t": …}}}
    """
    return summaries(both_directions(scores, caption_to_video), groups)
