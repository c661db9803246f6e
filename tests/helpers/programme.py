"""A long sound of which it is known who speaks when: read sentences with music and silence between them."""

import random
from collections.abc import Mapping, Sequence

import numpy as np

from data_prep.media import audio
from helpers import real_media
from helpers.real_media import Turn

_MATCH = 1.0  # second by which a segment may begin before its sentence
_QUIET = 0.02  # of the loudest tenth of a second: what recordings hold before the first word
_MOMENT = audio.SAMPLE_RATE // 10


def make(seconds: float, seed: int = 0) -> tuple[np.ndarray, list[Turn]]:
    """float32 [samples] at 16 kHz of at least so many seconds, and where each sentence was put.

    One to three sentences a second apart, then 4 to 12 seconds of music, of silence, or of both.
    """
    draw = random.Random(seed)
    sentences = [(_trimmed(real_media.heard(path)), text) for path, text in real_media.read_sentences().items()]
    pieces = [real_media.heard(path) for path in real_media.music()]
    parts: list[np.ndarray | float] = []
    turns, at = [], 0.0

    def put(part: np.ndarray | float) -> None:
        nonlocal at
        parts.append(part)
        at += part if isinstance(part, int | float) else len(part) / audio.SAMPLE_RATE

    while at < seconds:
        for _ in range(draw.randint(1, 3)):
            sound, text = draw.choice(sentences)
            turns.append(Turn(at, at + len(sound) / audio.SAMPLE_RATE, text))
            put(sound)
            put(1.0)
        if draw.random() < 2 / 3:
            piece, length = draw.choice(pieces), draw.randint(4, 12) * audio.SAMPLE_RATE
            begin = draw.randrange(len(piece) - length)
            put(piece[begin : begin + length])
        if draw.random() < 2 / 3:
            put(float(draw.randint(4, 12)))
    return real_media.joined(parts), turns


def _trimmed(sound: np.ndarray) -> np.ndarray:
    loud = np.abs(sound[: len(sound) // _MOMENT * _MOMENT]).reshape(-1, _MOMENT).max(axis=1)
    spoken = np.flatnonzero(loud > _QUIET * loud.max())
    return sound[spoken[0] * _MOMENT : (spoken[-1] + 1) * _MOMENT]


def start_errors(turns: Sequence[Turn], segments: Sequence[Mapping]) -> list[float | None]:
    """For each sentence the seconds by which the nearest start of a segment misses its own.

    None where no segment begins from a second before it to its end: it was lost, or lies in the segment of another.
    """
    errors: list[float | None] = []
    for turn in turns:
        starts = [s["start"] for s in segments if turn.start - _MATCH <= s["start"] < turn.end]
        errors.append(min((start - turn.start for start in starts), key=abs, default=None))
    return errors
