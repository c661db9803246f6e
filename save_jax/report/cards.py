"""The queries that a report shows: which ones, the videos ranked for each, and what is known of those."""

import base64
import dataclasses
from collections.abc import Sequence

import numpy as np
import simplejpeg

from save_jax.data.records import Clip
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

    number: int  # of the caption in the split
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


def make(run: Trained, evaluation: Evaluation, groups: Sequence[str], count: int) -> list[Card]:
    """The cards of up to `count` queries of `evaluation`; `groups`: of its captions."""
    split = run.config.data.test_split
    source, info, scores = run.data.sources[split], evaluation.info, evaluation.scores["t2v"]
    ranks = metrics.ranks(scores, info.caption_to_video)
    queries = choose(ranks, groups, count)
    # Of equal scores the right video comes last: its place is its rank.
    orders = [np.lexsort((np.arange(len(source)) == info.caption_to_video[q], -scores[q])) for q in queries]
    shown = [
        list(dict.fromkeys([*o[:SHOWN].tolist(), int(info.caption_to_video[q])]))
        for q, o in zip(queries, orders, strict=True)
    ]
    videos = sorted({video for row in shown for video in row})
    assert isinstance(run.evaluator, RetrievalEvaluator)  # no other method has branches to explain
    explained = explain(run.evaluator, run.params, split, evaluation.texts[queries], videos)
    columns = {video: column for column, video in enumerate(videos)}
    clips = {video: source[video] for video in videos}
    raw_size = source.settings["image_size"] if source.settings["frames"] == "raw" else None
    pictures = {video: thumbnails(clip, raw_size) for video, clip in clips.items()}
    cards = []
    for row, (query, order, ranked) in enumerate(zip(queries, orders, shown, strict=True)):
        candidates = []
        for video in ranked:
            score = float(scores[query, video])
            candidates.append(
                Candidate(
                    rank=int(np.flatnonzero(order == video)[0]) + 1,
                    right=video == info.caption_to_video[query],
                    score=score if score > metrics.NOWHERE else None,
                    clip=clips[video],
                    thumbnails=pictures[video],
                    carried=_carried(explained, row, columns[video], clips[video]),
                )
            )
        largest = max([abs(c.branch) for x in candidates for c in x.carried if c.branch is not None], default=0.0)
        cards.append(Card(query, info.captions[query], groups[query], int(ranks[query]), candidates, largest))
    return cards
