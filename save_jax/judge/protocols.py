"""Named protocols: what published numbers are measured on, and whether an evaluation is the same."""

import dataclasses
from collections import Counter
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Protocol:
    """A test set. What a model was trained on is not checked here."""

    name: str
    videos: int  # the complete gallery
    captions: int  # of each video; every one is a query


# By the name of the corpus in data_prep.
PROTOCOLS = {
    "msrvtt-9k": Protocol("MSR-VTT 1k-A (JSFusion)", 1000, 1),
    "msrvtt-7k": Protocol("MSR-VTT full test", 2990, 20),
    "vatex": Protocol("VATEX, 1,500 test videos", 1500, 10),
    "charades": Protocol("Charades", 1863, 1),
    "lsmdc": Protocol("LSMDC, 1,000 test clips", 1000, 1),
    "audiocaps": Protocol("AudioCaps, 975 test sounds", 975, 5),
    "sounddescs": Protocol("SoundDescs, 4,947 test sounds", 4947, 1),
    "demo": Protocol("demo corpus", 200, 1),
}


def describe(corpus: str, split: str, ids: Sequence[str], caption_to_video: np.ndarray, failed: Sequence[str]) -> dict:
    """What was measured, and every departure from the corpus's protocol.

    Args:
        ids: of the gallery's videos.
        caption_to_video: int [captions], the video of each query.
        failed: ids of videos that could not be decoded; they stay in the gallery and rank last.
    Returns:
        {"name", "split", "videos", "queries", "departures": [str]}. With a departure, the number is not comparable with
        published ones, and the report says so beside it.
    """
    protocol = PROTOCOLS.get(corpus)
    departures = []
    if protocol is None:
        departures.append(f"corpus {corpus!r} has no published protocol")
    elif split != "test":
        departures.append(f"split {split!r} is not the test split")
    else:
        if len(ids) != protocol.videos:
            departures.append(f"the gallery has {len(ids)} videos, the protocol {protocol.videos}")
        counts = np.bincount(caption_to_video, minlength=len(ids))
        if other := int((counts != protocol.captions).sum()):
            departures.append(f"{other} videos do not have {protocol.captions} caption(s)")
    if twice := [i for i, count in Counter(ids).items() if count > 1]:
        departures.append(f"{len(twice)} ids occur more than once, such as {twice[0]}")
    if len(failed):
        departures.append(f"{len(failed)} videos could not be decoded and rank last")
    return {
        "name": protocol.name if protocol else corpus,
        "split": split,
        "videos": len(ids),
        "queries": len(caption_to_video),
        "departures": departures,
    }
