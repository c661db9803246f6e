"""Named protocols: what published numbers are measured on, and whether an evaluation is the same."""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Protocol:
    """A test set. What a model was trained on is not checked here."""

    name: str
    short: str  # in signatures
    videos: int  # the complete gallery
    captions: int  # of each video; every one is a query
    gallery: str = ""  # `digest` of the official ids, where it is known here; the lists themselves are others' to ship
    version: int = 1  # goes up where the meaning of a row changes


# By the name of the corpus in data_prep. The digest of 1k-A is of the column video_id of MSRVTT_JSFUSION_test.csv, the
# same in two public copies (GitHub www-2025/EAT 532baeb and minhhieu121/AIC_benchmark 8faa148).
PROTOCOLS = {
    "msrvtt-9k": Protocol("MSR-VTT 1k-A (JSFusion)", "1k-A", 1000, 1, "49a09fb68f7e"),
    # The published split itself: video7010 to video9999.
    "msrvtt-7k": Protocol("MSR-VTT full test", "msrvtt-full", 2990, 20, "916e9b2dd9a4"),
    "vatex": Protocol("VATEX, 1,500 test videos", "vatex-1500", 1500, 10),
    "charades": Protocol("Charades", "charades", 1863, 1),
    "lsmdc": Protocol("LSMDC, 1,000 test clips", "lsmdc-1k", 1000, 1),
    "audiocaps": Protocol("AudioCaps, 975 test sounds", "audiocaps-975", 975, 5),
    "sounddescs": Protocol("SoundDescs, 4,947 test sounds", "sounddescs", 4947, 1),
    "demo": Protocol("demo corpus", "demo", 200, 1),
}
# Usual names of protocols → corpora, as above.
ALIASES = {"msrvtt-1k-a": "msrvtt-9k", "msrvtt-full": "msrvtt-7k"}


def named(protocol: str) -> str:
    """The corpus of a protocol's usual name. Raises ValueError that lists those known."""
    corpus = ALIASES.get(protocol, protocol)
    if corpus not in PROTOCOLS:
        known = sorted({*ALIASES, *PROTOCOLS} - set(ALIASES.values()))
        raise ValueError(f"unknown protocol {protocol!r}; choose one of {', '.join(known)}, or None")
    return corpus


def digest(names: Sequence[str]) -> str:
    """Of a set of ids or of queries: 12 hexadecimal digits of the SHA-256 of the sorted names, one a line."""
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()[:12]


def describe(
    corpus: str,
    split: str,
    videos: int,
    caption_to_video: np.ndarray,
    *,
    ids: Sequence[str] = (),
    texts: Sequence[str] = (),
    failed: Sequence[str] = (),
) -> dict:
    """What was measured, and every departure from the corpus's protocol.

    Args:
        corpus: a key of `PROTOCOLS`, or any other name.
        videos: number of the gallery's.
        caption_to_video: int [captions], the video of each query.
        ids: of the gallery's videos; () where they are not known.
        texts: of the queries; () where they are not known.
        failed: ids of videos that could not be decoded; they stay in the gallery and rank last.
    Returns:
        {"name", "short", "version", "split", "videos", "queries", "gallery", "texts": digests or "", "departures":
        [str]}. With a departure, the number is not comparable with published ones, and the report says so beside it.
    Raises:
        ValueError where ids or texts are not as many as videos or queries.
    """
    queries = len(caption_to_video)
    for what, given, count in (("ids", ids, videos), ("texts", texts, queries)):
        if len(given) not in (0, count):
            raise ValueError(f"{len(given)} {what} were given for {count}; give one for each, in order, or none")
    protocol = PROTOCOLS.get(corpus)
    gallery = digest(ids) if len(ids) else ""
    departures = []
    if protocol is None:
        departures.append(f"corpus {corpus!r} has no published protocol" if corpus else "no protocol was named")
    elif split != "test":
        departures.append(f"split {split!r} is not the test split")
    else:
        if videos != protocol.videos:
            departures.append(f"the gallery has {videos} videos, the protocol {protocol.videos}")
        elif gallery and protocol.gallery and gallery != protocol.gallery:
            departures.append(
                f"the gallery's ids are not the official list's (digest {gallery}, not {protocol.gallery})"
            )
        counts = np.bincount(caption_to_video, minlength=videos)
        if other := int((counts != protocol.captions).sum()):
            departures.append(f"{other} videos do not have {protocol.captions} caption(s)")
    if twice := [i for i, count in Counter(ids).items() if count > 1]:
        departures.append(f"{len(twice)} ids occur more than once, such as {twice[0]}")
    if len(failed):
        departures.append(f"{len(failed)} videos could not be decoded and rank last")
    # Which text asks for which video: a query is both, so without ids it has no digest.
    asked = [f"{ids[video]}\t{text}" for video, text in zip(caption_to_video, texts, strict=False)] if len(ids) else []
    return {
        "name": protocol.name if protocol else corpus or "no protocol",
        "short": protocol.short if protocol else "custom",
        "version": protocol.version if protocol else 1,
        "split": split,
        "videos": videos,
        "queries": queries,
        "gallery": gallery,
        "texts": digest(asked) if asked else "",
        "departures": departures,
    }
