"""The queries that a report shows: which ones, the videos ranked for each, and what is known of those."""

import base64
import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import simplejpeg

from save_jax.data.records import Clip, ShardSource
from save_jax.evaluation.attribution import Explanation, explain
from save_jax.evaluation.contract import Evaluation, Trained
from save_jax.evaluation.retrieval import RetrievalEvaluator
from save_jax.judge import metrics

SHOWN = 5  # videos ranked first; the right one is added where it comes later
WORDS = {"vision": "picture", "audio": "sound", "speech": "speech"}  # branches, as a page calls them
FAILURES = 0.75  # share of the queries shown of a group whose right video is not first, as far as there are so many
THUMBNAILS = 3  # frames of a video
LEAST_PIXELS = 96  # a side of a thumbnail has at least so many, less than twice as many, where the frame has them


@dataclasses.dataclass(frozen=True)
class Carried:
    """What one of picture, sound and speech did for one pair; None where that cannot be told."""

    name: str
    there: bool  # whether the video has any
    branch: float | None  # score minus score without the branch
    taken: float | None  # score minus score without the input
    gate: float | None  # mean absolute attention gate


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One video as one query sees it."""

    rank: int
    right: bool
    score: float | None  # None for a video without any frame
    clip: Clip
    thumbnails: list[tuple[str, float]]  # JPEG as data URI, seconds
    carried: list[Carried]

    @property
    def strongest(self) -> str:
        """What carried the match: of what the video has, the branch whose absence costs most."""
        known = {c.name: c.branch for c in self.carried if c.there and c.branch is not None}
        return max(known, key=known.__getitem__) if known else ""


@dataclasses.dataclass(frozen=True)
class Card:
    """One query with the videos ranked first and the right one."""

    key: str  # of no other card of a page: the caption's number in the split
    query: str
    group: str
    rank: int  # of the right video
    candidates: list[Candidate]
    largest: float  # absolute contribution of any branch to any of them, to draw bars by

    @property
    def text(self) -> str:
        """What a reader may search for: the query, and id, tags and transcript of the right video."""
        right = next(c.clip for c in self.candidates if c.right)
        return " ".join([self.query, right.id, *right.tags, right.transcript]).lower()


def choose(ranks: np.ndarray, groups: Sequence[str], count: int) -> list[int]:
    """Queries to show: as many of each group as of any other, in each the worst ranks first, then some successes.

    Args:
        ranks: int [queries].
        groups: name of each query's group.
    Returns:
        Up to `count` numbers of queries, group after group. Of successes (rank 1), evenly spaced ones.
    """
    names = np.asarray(groups)
    members = {name: np.flatnonzero(names == name) for name in np.unique(names)}
    shares = dict.fromkeys(members, 0)
    while sum(shares.values()) < min(count, len(names)):
        for name in members:
            if shares[name] < len(members[name]) and sum(shares.values()) < count:
                shares[name] += 1
    chosen = []
    for name, numbers in members.items():
        worst = numbers[np.argsort(-ranks[numbers], kind="stable")]
        failures, successes = worst[ranks[worst] > 1], worst[ranks[worst] == 1]
        failing = min(len(failures), max(round(FAILURES * shares[name]), shares[name] - len(successes)))
        spaced = np.linspace(0, len(successes) - 1, shares[name] - failing).astype(int)
        chosen += [*failures[:failing].tolist(), *successes[spaced].tolist()]
    return chosen


def thumbnails(clip: Clip, raw_size: int | None) -> list[tuple[str, float]]:
    """A few evenly spaced frames as small JPEG data URIs, with their seconds; `raw_size`: side of frames kept raw."""
    positions = np.unique(np.linspace(0, len(clip.frames) - 1, min(THUMBNAILS, len(clip.frames))).astype(int))
    shown = []
    for position in positions:
        data = clip.frames[position]
        if raw_size:
            picture = np.frombuffer(data, np.uint8).reshape(raw_size, raw_size, 3)
            step = max(1, raw_size // LEAST_PIXELS)
            picture = np.ascontiguousarray(picture[::step, ::step])
        else:
            picture = simplejpeg.decode_jpeg(data, "RGB", min_height=LEAST_PIXELS, min_width=LEAST_PIXELS)
        small = base64.b64encode(simplejpeg.encode_jpeg(picture, quality=70)).decode()
        shown.append((f"data:image/jpeg;base64,{small}", float(clip.frame_times[position])))
    return shown


def _carried(explained: Explanation, row: int, column: int, clip: Clip) -> list[Carried]:
    has = {"vision": bool(clip.frames), "audio": clip.fbank is not None, "speech": bool(clip.transcript)}

    def number(table: dict[str, np.ndarray], name: str, *at: int) -> float | None:
        return float(table[name][at]) if name in table and clip.frames else None

    return [
        Carried(
            WORDS[name],
            present,
            number(explained.branches, name, row, column),
            number(explained.inputs, name, row, column),
            number(explained.gates, name, column),
        )
        for name, present in has.items()
        if name == "vision" or name in explained.branches
    ]


class Ranked(NamedTuple):
    """One query that is shown."""

    number: int
    rank: int  # of the right video
    order: np.ndarray  # of all videos, best first
    shown: list[int]  # those ranked first, and the right one


def _ranked(scores: np.ndarray, right: np.ndarray, groups: Sequence[str], count: int) -> list[Ranked]:
    """Of equal scores the right video comes last: its place is its rank."""
    ranks, chosen = metrics.ranks(scores, right), []
    for query in choose(ranks, groups, count):
        order = np.lexsort((np.arange(scores.shape[1]) == right[query], -scores[query]))
        shown = list(dict.fromkeys([*order[:SHOWN].tolist(), int(right[query])]))
        chosen.append(Ranked(query, int(ranks[query]), order, shown))
    return chosen


def _cards(
    chosen: Sequence[Ranked],
    scores: np.ndarray,
    queries: Sequence[str],
    groups: Sequence[str],
    source: ShardSource,
    carried: Callable[[int, int, Clip], list[Carried]] = lambda row, video, clip: [],
    prefix: str = "",
) -> list[Card]:
    """`carried`: of the n-th card and a video, what it shows of their match. `prefix`: of the cards' keys."""
    raw_size = source.settings["image_size"] if source.settings["frames"] == "raw" else None
    clips = {video: source[video] for video in sorted({video for ranked in chosen for video in ranked.shown})}
    pictures = {video: thumbnails(clip, raw_size) for video, clip in clips.items()}
    cards = []
    for row, (query, rank, order, shown) in enumerate(chosen):
        candidates = []
        for video in shown:
            score, place = float(scores[query, video]), int(np.flatnonzero(order == video)[0]) + 1
            candidates.append(
                Candidate(
                    rank=place,
                    right=place == rank,
                    score=score if score > metrics.NOWHERE else None,
                    clip=clips[video],
                    thumbnails=pictures[video],
                    carried=carried(row, video, clips[video]),
                )
            )
        largest = max([abs(c.branch) for x in candidates for c in x.carried if c.branch is not None], default=0.0)
        cards.append(Card(f"{prefix}{query}", queries[query], groups[query], rank, candidates, largest))
    return cards


def make(run: Trained, evaluation: Evaluation, groups: Sequence[str], count: int) -> list[Card]:
    """The cards of up to `count` queries of `evaluation`; `groups`: of its captions."""
    split = run.config.data.test_split
    info, scores = evaluation.info, evaluation.scores["t2v"]
    chosen = _ranked(scores, info.caption_to_video, groups, count)
    videos = sorted({video for ranked in chosen for video in ranked.shown})
    assert isinstance(run.evaluator, RetrievalEvaluator)  # no other method has branches to explain
    texts = evaluation.texts[[ranked.number for ranked in chosen]]
    explained = explain(run.evaluator, run.params, split, texts, videos)
    columns = {video: column for column, video in enumerate(videos)}

    def carried(row: int, video: int, clip: Clip) -> list[Carried]:
        return _carried(explained, row, columns[video], clip)

    return _cards(chosen, scores, info.captions, groups, run.data.sources[split], carried)


def make_plain(
    scores: np.ndarray, right: np.ndarray, queries: Sequence[str], group: str, source: ShardSource, count: int
) -> list[Card]:
    """Cards without a word on what carried a match.

    Args:
        scores: float [queries, videos]; right: int [queries], the right video of each.
        queries: what they are called; group: what all of them are.
    """
    groups = [group] * len(queries)
    chosen, key = _ranked(scores, right, groups, count), "".join(filter(str.isalpha, group))
    return _cards(chosen, scores, queries, groups, source, prefix=f"{key}-")
