"""What is known of a split besides pictures and sound: texts, groups, tags, and what its videos lack."""

import dataclasses

import numpy as np

from save_jax.data.records import ShardSource
from save_jax.data.tokenizer import says_something


@dataclasses.dataclass
class SplitInfo:
    """One split, in the order of its shards."""

    ids: list[str]  # of the videos
    captions: list[str]
    caption_to_video: np.ndarray  # int [captions], the video of each
    groups: list[str]  # query group of each caption
    tags: list[list[str]]  # of each video
    sound: np.ndarray  # bool [videos], whether a video has sound
    transcripts: list[str]  # of each video; "" where the model reads none
    gallery: dict  # counts, and the clips that failed


def members(tags: list[list[str]]) -> dict[str, np.ndarray]:
    """Which videos have each tag, by name: bool [videos]. `tags`: of each video."""
    names = sorted({tag for of_video in tags for tag in of_video})
    return {name: np.array([name in of_video for of_video in tags]) for name in names}


def read(source: ShardSource) -> SplitInfo:
    """What is known of a split, from its records."""
    captions, groups, tags, sound, transcripts = [], [], [], [], []
    for number in range(len(source)):
        clip = source[number]
        captions += clip.captions
        groups += clip.groups
        tags.append(clip.tags)
        sound.append(clip.fbank is not None or clip.spectrogram is not None)
        transcripts.append(clip.transcript if says_something(clip.transcript) else "")
    gallery = {
        "videos": len(source),
        "captions": len(captions),
        "without_captions": int((source.caption_counts == 0).sum()),
        "without_sound": sound.count(False),
        "without_transcript": transcripts.count(""),
        "failed": source.failed,
    }
    videos = np.repeat(np.arange(len(source)), source.caption_counts)
    return SplitInfo(source.ids, captions, videos, groups, tags, np.array(sound), transcripts, gallery)
