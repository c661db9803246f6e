"""A score matrix of any model, judged, in NumPy alone."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

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
            sounddescs or demo. None: that of a run's own file, or else any gallery.
        caption_to_video: int [captions], the right video of each. By default captions that have names are named as
            their videos; others stand in the order of the videos, as many for each as the protocol has. Without a
            protocol it is one for each.
        groups: a name for each caption, "" for none. There are results for each group, too.
        videos: ids of the gallery, in the order of the columns, where a file does not name them; they go into the
            signature, as a digest.
        texts: of the captions; they do, too.
        against: other systems, by name: matrices or files of the same captions and videos, one for each seed.
        metric: that systems are compared by, one of `comparison.METRICS`.
        post: what changed the scores before, in a word; "none" for scores as the model gave them.
        picked_on: the split that picked the checkpoint: "val", "test", or "none" where nothing was picked.
        strict: refuse a gallery that is not the protocol's. If not, it is a departure, named beside the numbers.
        nan: "refuse", or "worst": NaN counts against the query, and is a departure.
        with_habits: also what the score would be under habits of the field, see `judge.habits`.
    Returns:
        A dictionary. "t2v" and "v2t" hold R@1, R@5, R@10, R@50 in percent, MedR, MeanR, MRR, SumR and queries;
        "intervals" the bootstrap 95 % intervals of both, over videos with their captions; "groups" both directions of
        each group, with "intervals" of text→video; "ties" how many queries of each direction have another candidate
        with the right one's score; "protocol" the name, numbers and digests of videos and queries, and every departure
        from the protocol; "signature" one line to paste beside the numbers; "seeds" how many; with `against`
        "comparisons" {name: {"t2v", "v2t": comparison.Difference, "groups": {group: Difference}}}; with `with_habits`
        "habits"; "at_chance", whether text→video is no better than chance: then order or sign may be wrong.
    Raises:
        ValueError for scores that are NaN, infinite or of another shape, an unknown protocol, and a gallery that is not
        the protocol's.
    """
    given = [_read(one, "scores") for one in _as_list(scores)]
    others = {name: [_read(one, name) for one in _as_list(seeds)] for name, seeds in (against or {}).items()}
    if not given or not all(others.values()):
        raise ValueError("there is a system without any scores; give one matrix for each seed")
    if nan not in ("refuse", "worst"):
        raise ValueError(f"nan={nan!r} is not known; choose refuse or worst")
    comparison.points(np.ones(1, int), metric)  # of a known name
    first, task = given[0], given[0].task or reading.Task(np.zeros(0, int))
    given = [first, *(_aligned(f"seed {number}", one, first) for number, one in enumerate(given[1:], 2))]
    others = {name: [_aligned(name, one, first) for one in seeds] for name, seeds in others.items()}
    corpus = protocols.named(protocol) if protocol is not None else task.corpus
    if task.corpus and corpus != task.corpus:
        raise ValueError(
            f"the scores are of {task.corpus}, as their file says, and not of {protocol}; leave protocol=None"
        )
    ids, names, words = _names(videos), _names(groups) or list(task.groups), _names(texts) or list(task.texts)
    if ids and first.videos and ids != list(first.videos):
        raise ValueError(
            f"videos={reading.first_few(ids)}, … are not those that the scores have, in their order: "
            f"{reading.first_few(first.videos)}, …; leave videos out"
        )
    ids = ids or list(first.videos)
    right = _right_videos(first, corpus, protocol or corpus, caption_to_video, strict and protocol is not None)
    if len(names) not in (0, len(right)):
        raise ValueError(f"{len(names)} groups for {len(right)} captions; give one for each, or none")
    described = protocols.describe(
        corpus, task.split, first.scores.shape[1], right, ids=ids, texts=words, failed=task.failed
    )
    picked_on = task.picked_on if picked_on == signature.UNKNOWN and task.picked_on else picked_on
    signature.line(described, post, picked_on)  # words that cannot stand there are told before the work
    finite = nan == "refuse"
    ranked = [metrics.both_directions(one.scores, right, finite) for one in given]
    systems = [*given, *(one for seeds in others.values() for one in seeds)]
    if not finite and (broken := set().union(*(habits.rows_with_nan(one.scores) for one in systems))):
        described["departures"].append(f"scores of {len(broken)} queries are NaN, which counts against them")
    results = _mean([metrics.summaries(one, names) for one in ranked])
    results["intervals"] = {"t2v": _intervals([r.t2v.at_least for r in ranked], right)}
    results["intervals"]["v2t"] = _intervals([r.v2t.at_least for r in ranked], ranked[0].captioned)
    for name, group in results["groups"].items():
        members = np.array(names) == name
        group["intervals"] = {"t2v": _intervals([r.t2v.at_least[members] for r in ranked], right[members])}
    ways = {"t2v": ranked[0].t2v, "v2t": ranked[0].v2t}
    results["ties"] = {way: int((p.at_least - p.above > 1).sum()) for way, p in ways.items()}
    line = signature.line(described, post, picked_on)
    results |= {"protocol": described, "signature": line, "seeds": len(given), "dtype": str(first.scores.dtype)}
    chance = (first.scores.shape[1] + 1) / 2
    results["at_chance"] = len(right) >= 20 and results["t2v"]["MeanR"] > 0.9 * chance
    if others:
        results["comparisons"] = _comparisons(ranked, others, right, names, metric, finite)
    if with_habits:
        made = [habits.table(one.scores, r, right) for one, r in zip(given, ranked, strict=True)]
        common = [name for name in made[0] if all(name in rows for rows in made)]  # seeds may differ in their NaN
        results["habits"] = _mean([{name: rows[name] for name in common} for rows in made]) | habits.best_of(
            [r.t2v.at_least for r in ranked]
        )
    return results


def _as_list(scores: object) -> list:
    return list(scores) if isinstance(scores, (list, tuple)) and not _is_matrix(scores) else [scores]


def _is_matrix(scores: Sequence) -> bool:
    """Whether a list is a matrix written out, and not a list of matrices."""
    return bool(scores) and isinstance(scores[0], (list, tuple))


def _names(given: Iterable[object]) -> list[str]:
    return [str(name) for name in given]


def _read(scores: object, name: str) -> reading.Given:
    if isinstance(scores, (str, os.PathLike)):
        given, name = reading.read(os.fspath(scores)), f"scores of {os.fspath(scores)}"
    else:
        given = scores if isinstance(scores, reading.Given) else reading.Given(_array(scores))
    shape, dtype = given.scores.shape, given.scores.dtype
    if len(shape) != 2 or not np.prod(shape):
        raise ValueError(f"{name} have shape {list(shape)}, not [captions, videos]; give one row for each caption")
    # Numbers of ml_dtypes (bfloat16) are no numbers to NumPy's own hierarchy.
    if dtype.kind not in "fiu" and dtype.name != "bfloat16":
        raise ValueError(f"{name} are {dtype}, not real numbers")
    if isinstance(given.scores, np.ma.MaskedArray):
        raise ValueError(f"{name} are a masked array; fill what is masked (scores.filled(…)): every pair needs a score")
    return given


def _array(scores: Any) -> Scores:
    """An array; of a torch tensor, on any device, its numbers; what has rows to be read stays as it is."""
    if hasattr(scores, "detach"):
        tensor = scores.detach().cpu()
        return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
    if isinstance(scores, np.ndarray) or not (hasattr(scores, "shape") and hasattr(scores, "dtype")):
        return np.asanyarray(scores)
    return scores


def _aligned(name: str, one: reading.Given, first: reading.Given) -> reading.Given:
    """Scores with rows and columns in the order of the first scores', by name where they have names.

    Raises ValueError where they are not the same queries and videos, as far as is known.
    """
    if one.scores.shape != first.scores.shape:
        raise ValueError(
            f"{name} and the first scores have shapes {list(one.scores.shape)} and {list(first.scores.shape)}; compare "
            "them on the same captions and videos"
        )
    orders = []
    for side, here, there in (("queries", one.queries, first.queries), ("videos", one.videos, first.videos)):
        if bool(here) != bool(there):
            raise ValueError(
                f"the {side} of {name if here else 'the first scores'} have names, and those of "
                f"{'the first scores' if here else name} have none, so nobody knows whether their order is the same; "
                "name both sides or neither, or say the names by a list (--queries, --videos)"
            )
        place = {x: number for number, x in enumerate(here)}
        if missing := [x for x in there if x not in place]:
            raise ValueError(
                f"{name} lacks {len(missing)} of the first scores' {len(there)} {side}, such as "
                f"{reading.first_few(missing)}; compare on the same ones"
            )
        orders.append(
            np.array([place[x] for x in there], np.int64) if there else np.arange(one.scores.shape[len(orders)])
        )
    rows, columns = orders
    if one.task and first.task:  # a query named VIDEO#NUMBER is another one where captions stand in another order
        theirs = np.argsort(columns)[one.task.caption_to_video[rows]]
        if (theirs != first.task.caption_to_video).any():
            raise ValueError(f"{name} and the first scores have queries of the same names for other videos")
        texts = [one.task.texts[row] for row in rows] if len(one.task.texts) else []
        if texts and len(first.task.texts) and texts != list(first.task.texts):
            raise ValueError(f"{name} and the first scores have queries of the same names with other texts")
    if all((order == np.arange(len(order))).all() for order in orders):
        return one
    return reading.Given(reading.Reordered(one.scores, *orders), first.queries, first.videos)


def _right_videos(
    given: reading.Given,
    corpus: str,
    name: str | None,
    caption_to_video: Sequence[int] | np.ndarray | None,
    strict: bool,
) -> np.ndarray:
    """int [captions], checked against the matrix and the protocol."""
    scores = given.scores
    captions, videos = scores.shape
    protocol = protocols.PROTOCOLS.get(corpus)
    each = protocol.captions if protocol else 1
    if protocol and each > 1 and (videos, captions) == (protocol.videos * each, protocol.videos):
        raise ValueError(
            f"scores have {captions} rows and {videos} columns: the matrix is transposed, {name} has {protocol.videos} "
            "videos (columns) and one row for each caption; give scores.T (--transposed)"
        )
    if protocol and videos != protocol.videos and strict:
        raise ValueError(
            f"scores are of {videos} videos, protocol {name} ({protocol.name}) has a gallery of {protocol.videos}: a "
            "smaller gallery makes the task easier. Score all of its videos, or leave protocol=None (no --protocol), "
            "or have the departure named by strict=False (--departures)"
        )
    if caption_to_video is None and given.task is not None:
        caption_to_video = given.task.caption_to_video
    if caption_to_video is None and given.queries:
        place = {video: number for number, video in enumerate(given.videos)}
        if not all(query in place for query in given.queries):
            raise ValueError(
                f"queries have names ({reading.first_few(given.queries)}, …), which do not say whose video is right; "
                "say it by caption_to_video=[…] (--queries CSV, with columns query and video)"
            )
        caption_to_video = np.array([place[query] for query in given.queries])  # named as the video that they ask for
    if caption_to_video is None:
        if captions != videos * each:
            raise ValueError(
                f"scores have {captions} rows for {videos} videos of {each} caption{'s' if each > 1 else ''} each, not "
                f"{videos * each}; say which caption is of which video by caption_to_video=[…] (--queries)"
            )
        return np.repeat(np.arange(videos), each)
    right = np.asarray(caption_to_video)
    if right.dtype.kind in "iu":
        right = right.astype(np.int64)
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
    """Of the mean over seeds: a video is drawn with its queries in all of them. They hold chance of videos alone."""
    return metrics.intervals(np.concatenate(ranks), np.tile(video, len(ranks)))


def _comparisons(
    first: list[Ranked],
    others: Mapping[str, list[reading.Given]],
    right: np.ndarray,
    groups: list[str],
    metric: str,
    finite: bool,
) -> dict[str, dict]:
    """Both directions and every group against every other system, corrected for all of these comparisons together."""
    asked, made = [], []
    of_groups = {name: np.array(groups) == name for name in sorted(set(groups) - {""})}
    for name, seeds in others.items():
        ranked = [metrics.both_directions(one.scores, right, finite) for one in seeds]
        t2v, v2t = ([[getattr(r, way).at_least for r in side] for side in (first, ranked)] for way in ("t2v", "v2t"))
        rows = [("t2v", "", t2v, right), ("v2t", "", v2t, first[0].captioned)]
        for group, members in of_groups.items():
            rows.append(("t2v", group, [[r[members] for r in side] for side in t2v], right[members]))
        for way, group, (ours, theirs), video in rows:
            asked.append((name, way, group))
            made.append(comparison.compare(ours, theirs, video, metric))
    table: dict[str, dict] = {name: {"groups": {}} for name in others}
    for (name, way, group), difference in zip(asked, comparison.corrected(made), strict=True):
        (table[name]["groups"] if group else table[name])[group or way] = difference
    return table
