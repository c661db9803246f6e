"""One media file as windows: a stretch of its pictures, its own sound, and what is said in it.

In: a path, its transcript's segments and the length of a window; out: windows in time order, each as the clip that a
model was trained on. A file shorter than a window is one window.
"""

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import TypedDict

import numpy as np

from data_prep.media import audio, video
from data_prep.media.samples import begin as sound_begin
from data_prep.media.tracks import Tell, silent
from data_prep.runners import reason_of
from save_jax.data.records import Clip

_ALL = 10**9  # pictures of a file: one a second
_SLACK = 1.0  # seconds of a file that lengthen its last window, and are not worth another one
_LATE = 600.0  # seconds after pictures and sound; words later than that are of another film, or damaged


@dataclasses.dataclass(frozen=True)
class Cut:
    """How files are cut."""

    seconds: float = 12.0
    hop: float = 6.0

    def starts(self, duration: float) -> list[float]:
        """Seconds at which windows begin; the last one goes on to the file's end."""
        count = 1 + max(0, math.ceil((duration - self.seconds - _SLACK) / self.hop))
        return [number * self.hop for number in range(count)]


class Segment(TypedDict):
    """A stretch of speech, in seconds from the first picture."""

    start: float
    end: float
    text: str


@dataclasses.dataclass(frozen=True)
class Window:
    """One row of an index, before it is embedded."""

    number: int
    start: float
    end: float
    clip: Clip  # pictures as JPEG with their seconds in the file, sound, and the words of this stretch
    picture: bytes  # the JPEG in its middle


def read(
    path: str, segments: Sequence[Segment], image_size: int, max_frames: int, cut: Cut, tell: Tell = silent
) -> Iterator[Window]:
    """Windows of a file, in time order. `tell` hears of what is lost without failing: sound that does not decode.

    They go on while there are pictures, sound or words; after the last picture, that one stands.
    Its pictures are held as small JPEGs, 36 MB an hour; its sound goes through a temporary file. Raises MediaError for
    a file without pictures that decode.
    """
    frames, times = video.read_frames(path, image_size, _ALL, tell=lambda line: tell(f"pictures: {line}"))
    with _sound(path, tell) as (samples, before):
        duration = _duration(times, (len(samples) - before) / audio.SAMPLE_RATE, segments)
        starts = cut.starts(duration)
        for number, start in enumerate(starts):
            last = number == len(starts) - 1
            end = duration if last else start + cut.seconds
            inside = np.flatnonzero((times >= start) & (times < end))
            if not len(inside):  # the picture before it still stands
                inside = np.flatnonzero(times < end)[-1:]
            kept = [int(inside[place]) for place in video.choose(len(inside), max_frames)]
            stop = len(samples) if last else before + round(end * audio.SAMPLE_RATE)
            heard = samples[before + round(start * audio.SAMPLE_RATE) : stop]
            clip = Clip(
                id=f"{path}#{number}",
                captions=[],
                groups=[],
                transcript=words_between(segments, start if number else -math.inf, math.inf if last else end),
                tags=[],
                frames=[frames[place] for place in kept],
                frame_times=np.maximum(times[kept], np.float32(start)),
                fbank=audio.fbank(np.asarray(heard)) if len(heard) else None,
                teacher_video=None,
                teacher_audio=None,
            )
            yield Window(number, start, end, clip, frames[kept[len(kept) // 2]])


def _duration(times: np.ndarray, sound: float, segments: Sequence[Segment]) -> float:
    """Seconds from the first picture to the end of all that is seen, heard and said.

    `times`: float32 [frames] of the pictures, one a second; `sound`: where it ends. What goes on for less than `_SLACK`
    is in the last window all the same.
    """
    pictures = float(times[-1]) + 1.0
    longest = max(pictures, sound)
    longest = max(longest, *(s["end"] for s in segments if s["end"] <= longest + _LATE), 0.0)
    return longest if longest > pictures + _SLACK else pictures


@contextlib.contextmanager
def _sound(path: str, tell: Tell) -> Iterator[tuple[np.ndarray, int]]:
    """float32 [samples] at 16 kHz, and how many of them come before the first picture; [0] without sound, and with a
    note where it does not decode.
    """
    with contextlib.ExitStack() as stack:
        try:
            whole = audio.whole_track(path, tell=lambda line: tell(f"sound: {line}"))
            samples, _ = stack.enter_context(whole)
            before = max(0, round(-sound_begin(path) * audio.SAMPLE_RATE))
        except ValueError as error:  # the pictures are worth keeping
            tell(f"sound: {reason_of(error)}")
            samples, before = np.zeros(0, np.float32), 0
        yield samples, before


def words_between(segments: Sequence[Segment], start: float, end: float) -> str:
    """What is said between two times. Words of a segment are taken to follow each other evenly.

    Windows that meet share no word and lose none: the first asks from -inf, the last up to inf.
    """
    words = []
    for segment in segments:
        if segment["start"] >= end or segment["end"] < start:
            continue
        said = segment["text"].split()
        length = max(segment["end"] - segment["start"], 1e-3)
        times = segment["start"] + length * (np.arange(len(said)) + 0.5) / max(1, len(said))
        words += [word for word, time in zip(said, times, strict=True) if start <= time < end]
    return " ".join(words)
