"""The part of a clip that a teacher sees and hears: evenly spaced pictures of the whole video, and sound at its rate.

Shards hold one frame a second. Teachers want a fixed number of frames, so a short video gives more than one a second.
"""

import os
from collections.abc import Callable, Sequence

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from data_prep.media import audio, video
from data_prep.media.decode import Video, use_video

_BLOCK_SECONDS = 600


def evenly_spaced(path: str, count: int, fit: Callable[[np.ndarray], np.ndarray]) -> list[np.ndarray]:
    """`fit` of `count` frames from the first to the last (positions truncated), or of all if there are fewer.

    Args:
        path: a video, or a folder of pictures.
        fit: uint8 [height, width, 3] → what is kept of it; called as frames come, so that memory stays small.
    Raises:
        MediaError: a missing, foreign or damaged video.
    """
    if os.path.isdir(path):
        return [fit(picture) for picture, _ in video.pictures_of_folder(path, count)]

    def of_video(file: Video) -> list[np.ndarray]:
        ranks, convert = video.choose(len(file.times), count), VideoReformatter()
        return [fit(video.upright(frame, convert, file.aspect)) for _, frame in file.frames(ranks)]

    return use_video(path, of_video)


def sounds(path: str, sample_rate: int, hears: Callable[[int], Sequence[tuple[int, int]]]) -> list[np.ndarray] | None:
    """float32 [samples], mono, of each part that `hears` asks for; None without sound, as in a folder of pictures.

    Args:
        hears: number of samples in the track → (first, end) of the parts, all at 16 kHz.
    A track of any length is held in blocks of ten minutes; one that has more is decoded twice, as its length is known
    at its end only. Holds nothing above 8 kHz, as all sound that we prepare.
    Raises:
        MediaError: a file that cannot be opened, or a sound track of which nothing decodes.
    """
    if os.path.isdir(path):
        return None
    total, blocks = 0, []
    for block in audio.blocks(path, _BLOCK_SECONDS):
        total += len(block)
        blocks = [block]
    if not total:
        return None
    bounds, offset = hears(total), 0
    parts: list[list[np.ndarray]] = [[] for _ in bounds]
    for block in blocks if total == len(blocks[0]) else audio.blocks(path, _BLOCK_SECONDS):
        for part, (first, end) in zip(parts, bounds, strict=True):
            part.append(block[max(0, first - offset) : max(0, end - offset)].copy())  # so that the block can go
        offset += len(block)
    return [_resampled(np.concatenate(part), sample_rate) for part in parts]


def _resampled(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    if sample_rate == audio.SAMPLE_RATE:
        return samples
    frame = av.AudioFrame.from_ndarray(samples[None], "fltp", "mono")
    frame.sample_rate = audio.SAMPLE_RATE
    resampler = av.AudioResampler("fltp", "mono", sample_rate)
    parts = [*resampler.resample(frame), *resampler.resample(None)]
    return np.concatenate([part.to_ndarray()[0] for part in parts])
