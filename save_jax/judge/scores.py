"""Metrics of any model's score matrix, in NumPy alone."""

from collections.abc import Sequence

import numpy as np

from save_jax.judge import metrics, protocols

# Usual names of protocols → corpora, as `protocols` names them.
ALIASES = {"msrvtt-1k-a": "msrvtt-9k", "msrvtt-full": "msrvtt-7k"}


def evaluate_scores(
    scores: np.ndarray,
    protocol: str | None = None,
    *,
    caption_to_video: Sequence[int] | None = None,
    groups: Sequence[str] = (),
) -> dict:
    """Ranks both directions over the complete gallery. Ties count against the query.

    Args:
        scores: float [captions, videos], higher is better, every caption against every video.
        protocol: what the numbers will be compared with: msrvtt-1k-a, msrvtt-full, vatex, charades, lsmdc, audiocaps,
            sounddescs or demo. None: any gallery.
        caption_to_video: int [captions], the right video of each. By default captions stand in the order of the videos,
            as many for each as the protocol has. Without a protocol it is one for each.
        groups: a name for each caption, "" for none. There are results for each group, too.
    Returns:
        A dictionary. "t2v" and "v2t" hold R@1, R@5, R@10, R@50 in percent, MedR, MeanR, MRR, SumR and queries;
        "intervals" the bootstrap 95 % intervals of "t2v", over videos with their captions; "groups" the two directions
        of each group; "protocol" the name, the numbers of videos and queries, and every departure from the protocol.
    Raises:
        ValueError for scores that are NaN, infinite or of another shape, an unknown protocol, and a gallery that is not
        the protocol's.
    """
    scores = np.asarray(scores)
    if scores.ndim != 2 or not scores.size:
        raise ValueError(
            f"scores have shape {list(scores.shape)}, not [captions, videos]; give one row for each caption"
        )
    if not np.issubdtype(scores.dtype, np.number) or np.iscomplexobj(scores):
        raise ValueError(f"scores are {scores.dtype}, not real numbers")
    corpus = _corpus(protocol) if protocol is not None else ""
    videos = _right_videos(scores, corpus, protocol, caption_to_video)
    if len(groups) not in (0, len(scores)):
        raise ValueError(f"{len(groups)} groups for {len(scores)} captions; give one for each, or none")
    results = metrics.retrieval(scores, videos, list(groups))
    results["intervals"] = {"t2v": metrics.intervals(metrics.ranks(scores, videos), videos)}
    numbers = [str(number) for number in range(scores.shape[1])]
    described = protocols.describe(corpus or "not named", "test", numbers, videos, [])
    return results | {"protocol": described}


def _corpus(protocol: str) -> str:
    corpus = ALIASES.get(protocol, protocol)
    if corpus not in protocols.PROTOCOLS:
        known = sorted({*ALIASES, *protocols.PROTOCOLS} - set(ALIASES.values()))
        raise ValueError(f"unknown protocol {protocol!r}; choose one of {', '.join(known)}, or None")
    return corpus


def _right_videos(
    scores: np.ndarray, corpus: str, name: str | None, caption_to_video: Sequence[int] | None
) -> np.ndarray:
    """int [captions], checked against the matrix and the protocol."""
    captions, videos = scores.shape
    protocol = protocols.PROTOCOLS[corpus] if corpus else None
    if protocol and videos != protocol.videos:
        raise ValueError(
            f"scores are of {videos} videos, protocol {name} ({protocol.name}) has a gallery of {protocol.videos}: a "
            "smaller gallery makes the task easier. Score all of its videos, or leave protocol=None"
        )
    each = protocol.captions if protocol else 1
    if caption_to_video is None:
        if captions != videos * each:
            raise ValueError(
                f"scores have {captions} rows for {videos} videos of {each} caption{'s' if each > 1 else ''} each, not "
                f"{videos * each}; say which caption is of which video by caption_to_video=[…]"
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
