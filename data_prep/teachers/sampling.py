"""What a teacher looks at and hears of a clip: evenly spaced pictures of the whole video, and the sound at its rate.

Shards hold one frame a second; teachers want a fixed number, so a short video is looked at more often than that.
"""

import os
from collections.abc import Callable

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from data_prep import audio, video
from data_prep.decode import open_video


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
    with open_video(path) as file:
        convert = VideoReformatter()
        return [fit(video.upright(frame, convert)) for _, frame in file.frames(video.choose(len(file.times), count))]


def sound(path: str, sample_rate: int) -> np.ndarray | None:
    """float32 [samples], mono; None without a sound track. Holds nothing above 8 kHz, as all sound that we prepare."""
    samples = audio.waveform(path)
    if samples is None or sample_rate == audio.SAMPLE_RATE:
        return samples
    frame = av.AudioFrame.from_ndarray(samples[None], "fltp", "mono")
    frame.sample_rate = audio.SAMPLE_RATE
    resampler = av.AudioResampler("fltp", "mono", sample_rate)
    parts = [*resampler.resample(frame), *resampler.resample(None)]
    return np.concatenate([part.to_ndarray()[0] for part in parts])
