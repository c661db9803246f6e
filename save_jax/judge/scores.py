"""A score matrix of any model, judged, in NumPy alone."""

import os
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

from save_jax.judge import comparison, habits, metrics, protocols, reading, signature
from save_jax.judge.metrics import Ranked, Scores

Matrix: TypeAlias = Scores | reading.Given | str | os.PathLike  # what scores may be given as


def evaluate_scores(
    scores: Matrix | Sequence[Matrix],
    protocol: str | None = None,
    *,
    caption_to_video: Sequence[int] | np.ndarray | None = None,
    groups: Sequence[str] = (),
    videos: Sequence[str] = (),
    texts: Sequence[str] = (),
    against: Mapping[str, Matrix | Sequence[Matrix]] | None = None,
    metric: str = "SumR",
    post: str = "none",
    picked_on: str = signature.UNKNOWN,
    strict: bool = True,
    nan: str = "refuse",
    with_habits: bool = False,
) -> dict:
    """Ranks both directions over the complete gallery. Ties count against the query.

    Args:
        scores: float [captions, videos], higher is better, every caption against every video; or a file of them
            (`judge.reading`). A list of those is one system's several seeds: the numbers are means over them.
        protocol: what the numbers will be compared with: msrvtt-1k-a, msrvtt-full, vatex, charades, lsmdc, audiocaps,
            sounddescs or demo. None: any gallery.
        caption_to_video: int [captions], the right video of each. By default captions stand in the order of the videos,
            as many for each as the protocol has. Without a protocol it is one for each.
        groups: a name for each caption, "" for none. There are results for each group, too.
        videos: ids of the gallery, in the order of the columns; they go into the signature, as a digest.
        texts: of the captions; they do, too.
        against: other systems, by name: matrices or files of the same captions and videos, one for each seed.
        metric: that systems are compared by, one of `comparison.METRICS`.
        post: what changed the scores before, in a word; "none" for scores as the model gave them.
        picked_on: the split that picked the checkpoint: "val", "test", or "none" where nothing was picked.
        strict: refuse a gallery that is not the protocol's. If not, it is a departure, named beside the numbers.
        nan: "refuse", or "worst": NaN counts against the query.
        with_habits: also what the score would be under habits of the field, see `judge.habits`.
    Returns:
        A dictionary. "t2v" and "v2t" hold R@1, R@5, R@10, R@50 in percent, MedR, MeanR, MRR, SumR and queries;
        "intervals" the bootstrap 95 % intervals of both, over videos with their captions; "groups" both directions of
        each group, with "intervals" of text→video; "ties" how many queries of each direction have another candidate
        with the right one's score; "protocol" the name, numbers and digests of videos and queries, and every departure
        from the protocol; "signature" one line to paste beside the numbers; "seeds" how many; with `against`
        "comparisons" {name: {"t2v", "v2t", each group: comparison.Difference}}; with `with_habits` "habits".
    Raises:
        ValueError for scores that are NaN, infinite or of another shape, an unknown protocol, and a gallery that is not
        the protocol's.
    """
    given = [_read(one) for one in _as_list(scores)]
    corpus = protocols.named(protocol) if protocol is not None else ""
    if nan not in ("refuse", "worst"):
        raise ValueError(f"nan={nan!r} is not known; choose refuse or worst")
    task = given[0].task or reading.Task(np.zeros(0, int))
    for one in given:
        _check(one.scores)
        if one.scores.shape != given[0].scores.shape:
            raise ValueError(_other_shape("seeds of one system", one.scores, given[0].scores))
    right = caption_to_video if caption_to_video is not None else task.caption_to_video if given[0].task else None
    right = _right_videos(given[0].scores, corpus, protocol, right, strict)
    names, videos, texts = list(groups or task.groups), list(videos or given[0].videos), list(texts or task.texts)
    if len(names) not in (0, len(right)):
        raise ValueError(f"{len(names)} groups for {len(right)} captions; give one for each, or none")
    # Text and lists are checked before minutes may be spent on ranks.
    described = protocols.describe(corpus, "test", given[0].scores.shape[1], right, ids=videos, texts=texts)
    line = signature.line(described, post, picked_on)
    others = {}
    for name, seeds in (against or {}).items():
        others[name] = [_read(one) for one in _as_list(seeds)]
        for one in others[name]:
            _check(one.scores)
            _check_same(name, one, given[0])
    finite = nan == "refuse"
    ranked = [metrics.both_directions(one.scores, right, finite) for one in given]
    results = _mean([metrics.summaries(one, names) for one in ranked])
    results["intervals"] = {"t2v": _intervals([r.t2v.at_least for r in ranked], right)}
    results["intervals"]["v2t"] = _intervals([r.v2t.at_least for r in ranked], ranked[0].captioned)
    for name, group in results["groups"].items():
        members = np.array(names) == name
        group["intervals"] = {"t2v": _intervals([r.t2v.at_least[members] for r in ranked], right[members])}
    first = ranked[0]
    results["ties"] = {
        way: int((p.at_least - p.above > 1).sum()) for way, p in (("t2v", first.t2v), ("v2t", first.v2t))
    }
    results |= {"protocol": described, "signature": line, "seeds": len(given), "dtype": str(given[0].scores.dtype)}
    if others:
        results["comparisons"] = _comparisons(ranked, others, right, names, metric, finite)
    if with_habits:
        results["habits"] = habits.table(given[0].scores, first, right, [r.t2v.at_least for r in ranked])
    return results


def _as_list(scores: object) -> list:
    return list(scores) if isinstance(scores, (list, tuple)) and not _is_matrix(scores) else [scores]


def _is_matrix(scores: Sequence) -> bool:
    """Whether a list is a matrix written out, and not a list of matrices."""
    return bool(scores) and isinstance(scores[0], (list, tuple)) and not isinstance(scores[0], (str, os.PathLike))


def _read(scores: object) -> reading.Given:
    if isinstance(scores, reading.Given):
        return scores
    if isinstance(scores, (str, os.PathLike)):
        return reading.read(os.fspath(scores))
    if isinstance(scores, np.ndarray) or not (hasattr(scores, "shape") and hasattr(scores, "dtype")):
        scores = np.asarray(scores)
    return reading.Given(scores)  # type: ignore[arg-type]


def _check(scores: Scores) -> None:
    if len(scores.shape) != 2 or not np.prod(scores.shape):
        raise ValueError(
            f"scores have shape {list(scores.shape)}, not [captions, videos]; give one row for each caption"
        )
    # Numbers of ml_dtypes (bfloat16) are no numbers to NumPy's own hierarchy.
    if scores.dtype.kind not in "fiu" and scores.dtype.name != "bfloat16":
        raise ValueError(f"scores are {scores.dtype}, not real numbers")


def _other_shape(what: str, one: Scores, other: Scores) -> str:
    return (
        f"{what} have scores of {list(one.shape)} and {list(other.shape)}; compare them on the same captions and videos"
    )


def _check_same(name: str, one: reading.Given, first: reading.Given) -> None:
    if one.scores.shape != first.scores.shape:
        raise ValueError(_other_shape(f"{name} and the first system", one.scores, first.scores))
    for side, here, there in (("queries", one.queries, first.queries), ("videos", one.videos, first.videos)):
        if len(here) and len(there) and list(here) != list(there):
            raise ValueError(
                f"{name} and the first system have other {side}, or another order of them: "
                f"{reading.first_few(here)}, … and {reading.first_few(there)}, …"
            )


def _right_videos(
    scores: Scores, corpus: str, name: str | None, caption_to_video: Sequence[int] | np.ndarray | None, strict: bool
) -> np.ndarray:
    """int [captions], checked against the matrix and the protocol."""
    captions, videos = scores.shape
    protocol = protocols.PROTOCOLS[corpus] if corpus else None
    each = protocol.captions if protocol else 1
    if protocol and each > 1 and (videos, captions) == (protocol.videos * each, protocol.videos):
        raise ValueError(
            f"scores have {captions} rows and {videos} columns: the matrix is transposed, {name} has {protocol.videos} "
            "videos (columns) and one row for each caption; give scores.T (--transposed)"
        )
    if protocol and videos != protocol.videos and strict:
        raise ValueError(
            f"scores are of {videos} videos, protocol {name} ({protocol.name}) has a gallery of {protocol.videos}: a "
            "smaller gallery makes the task easier. Score all of its videos, or leave protocol=None, or have the "
            "departure named by strict=False (--departures)"
        )
    if caption_to_video is None:
        if captions != videos * each:
            raise ValueError(
                f"scores have {captions} rows for {videos} videos of {each} caption{'s' if each > 1 else ''} each, not "
                f"{videos * each}; say which caption is of which video by caption_to_video=[…] (--queries)"
            )
        return np.repeat(np.arange(videos), each)
    right = np.asarray(caption_to_video)
    if right.shape != (captions,) or not np.issubdtype(right.dtype, np.integer):
        raise ValueError(
            f"caption_to_video has shape {list(right.shape)} and type {right.dtype}, not one whole number for each of "
            f"{captions} captions"
        )
    if right.min() < 0 or right.max() >= videos:
        raise ValueError(
            f"caption_to_video has numbers from {right.min()} to {right.max()}, not from 0 to {videos - 1}"
        )
    return right


def _mean(results: list[dict]) -> dict:
    """The mean over seeds of nested numbers; of queries, which are the same, the number itself."""
    if len(results) == 1:
        return results[0]
    return {
        key: _mean([r[key] for r in results]) if isinstance(value, dict)
        else value if key == "queries"
        else float(np.mean([r[key] for r in results]))
        for key, value in results[0].items()
    }  # fmt: skip


def _intervals(ranks: list[np.ndarray], video: np.ndarray) -> dict[str, list[float]]:
    """Of the mean over seeds: edges are means of the seeds' edges. They hold chance of videos, not of seeds."""
    return _mean_edges([metrics.intervals(one, video) for one in ranks])


def _mean_edges(intervals: list[dict[str, list[float]]]) -> dict[str, list[float]]:
    return {name: np.mean([one[name] for one in intervals], axis=0).tolist() for name in intervals[0]}


def _comparisons(
    first: list[Ranked],
    others: Mapping[str, list[reading.Given]],
    right: np.ndarray,
    groups: list[str],
    metric: str,
    finite: bool,
) -> dict[str, dict[str, comparison.Difference]]:
    """Both directions and every group against every other system, corrected for all of these comparisons together."""
    asked, made = [], []
    of_groups = {name: np.array(groups) == name for name in sorted(set(groups) - {""})}
    for name, seeds in others.items():
        ranked = [metrics.both_directions(one.scores, right, finite) for one in seeds]
        t2v = [[r.t2v.at_least for r in side] for side in (first, ranked)]
        v2t = [[r.v2t.at_least for r in side] for side in (first, ranked)]
        rows = {"t2v": (t2v, right), "v2t": (v2t, first[0].captioned)}
        for group, members in of_groups.items():
            rows[group] = ([[r[members] for r in side] for side in t2v], right[members])
        for row, ((ours, theirs), video) in rows.items():
            asked.append((name, row))
            made.append(comparison.compare(ours, theirs, video, metric))
    table: dict[str, dict[str, comparison.Difference]] = {name: {} for name in others}
    for (name, row), difference in zip(asked, comparison.corrected(made), strict=True):
        table[name][row] = difference
    return table
