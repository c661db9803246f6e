"""Where somebody speaks, and how to cut a sound track there: voice activity first, then pieces that Whisper can hear.

Whisper listens to 30 seconds at a time and invents text where nobody speaks. In: a sound in blocks; out: pieces of at
most 30 seconds that begin and end in silence. The detector is Silero's (MIT licence), which comes in the faster-whisper
wheel and runs in onnxruntime, without torch.
"""

import dataclasses
import importlib.util
from collections.abc import Iterable, Iterator

import numpy as np

from data_prep.media.audio import SAMPLE_RATE

METHODS = ("silero", "none")
PIECE_SECONDS = 30.0  # what Whisper's encoder takes
BLOCK_SECONDS = 600  # of sound in memory at a time
_GAP_SECONDS = 3.0  # a longer silence ends a piece: silence inside a window is where text is invented
_PAD_SECONDS = 0.2  # soft first and last sounds of words
_SILENCE_SECONDS = 0.5
_SEARCH_SECONDS = 5.0  # without a detector, the cut is the quietest moment in this end of a window
_MOMENT = SAMPLE_RATE // 10


@dataclasses.dataclass(frozen=True)
class Piece:
    """Sound to recognise: float32 [samples] at 16 kHz that begins `start` seconds into the track."""

    start: float
    samples: np.ndarray

    @property
    def seconds(self) -> float:
        return len(self.samples) / SAMPLE_RATE


@dataclasses.dataclass(frozen=True)
class Cut:
    """A part of a track: its pieces, its voices as (start, end) in seconds of the track (None: not looked for)."""

    pieces: list[Piece]
    voices: list[tuple[float, float]] | None
    end: float  # seconds of the track that this part and those before it speak of
    last: bool  # no part follows


def require(method: str) -> None:
    """Raises ValueError if the detector is not known or not installed."""
    if method not in METHODS:
        raise ValueError(f"unknown voice activity detector {method!r}; there are {', '.join(METHODS)}")
    if method == "silero" and importlib.util.find_spec("faster_whisper") is None:
        raise ValueError(
            "voice activity detection needs the faster-whisper package, which holds Silero's network: "
            "pip install -c constraints.txt -e '.[prep,speech]', or go without it (more invented text) with --vad none"
        )


def cut(blocks: Iterable[np.ndarray], method: str) -> Iterator[Cut]:
    """One `Cut` for each block of a track (float32 [samples], 16 kHz, mono).

    The last piece of a block waits for the next one, so that no block's end cuts a word.
    """
    find = _speech if method == "silero" else _everything
    rest, offset = np.zeros(0, np.float32), 0  # `rest` begins `offset` samples into the track
    blocks = iter(blocks)
    block = next(blocks, None)
    while block is not None:
        following = next(blocks, None)
        samples = np.concatenate([rest, block]) if len(rest) else block
        spans, voices = find(samples)
        waits_from = len(samples)
        if following is not None:
            waits_from = max(spans[-1][1] if spans else 0, len(samples) - SAMPLE_RATE)
            if spans and len(samples) - spans[-1][1] < _GAP_SECONDS * SAMPLE_RATE:
                waits_from = spans.pop()[0]
        yield Cut(
            [Piece((offset + start) / SAMPLE_RATE, samples[start:end]) for start, end in spans],
            None
            if voices is None
            else [
                ((offset + start) / SAMPLE_RATE, (offset + end) / SAMPLE_RATE)
                for start, end in voices
                if start < waits_from
            ],
            (offset + waits_from) / SAMPLE_RATE,
            following is None,
        )
        rest, offset, block = samples[waits_from:].copy(), offset + waits_from, following


Spans = list[tuple[int, int]]


def _speech(samples: np.ndarray) -> tuple[Spans, Spans]:
    """Pieces and voices, in samples: neighbouring voices share a piece while it is short enough."""
    from faster_whisper.vad import VadOptions, get_speech_timestamps

    options = VadOptions(
        max_speech_duration_s=PIECE_SECONDS,
        min_silence_duration_ms=int(1000 * _SILENCE_SECONDS),
        min_speech_duration_ms=100,
        speech_pad_ms=int(1000 * _PAD_SECONDS),
    )
    voices = [(voice["start"], voice["end"]) for voice in get_speech_timestamps(samples, options)]
    pieces: Spans = []
    for start, end in voices:
        fits = pieces and end - pieces[-1][0] <= PIECE_SECONDS * SAMPLE_RATE
        if fits and start - pieces[-1][1] <= _GAP_SECONDS * SAMPLE_RATE:
            pieces[-1] = (pieces[-1][0], end)
        else:
            pieces.append((start, end))
    return pieces, voices


def _everything(samples: np.ndarray) -> tuple[Spans, None]:
    """The whole sound, cut at the quietest tenth of a second of each window's last five seconds."""
    pieces, start, window = [], 0, int(PIECE_SECONDS * SAMPLE_RATE)
    while len(samples) - start > window:
        first = start + window - int(_SEARCH_SECONDS * SAMPLE_RATE)
        moments = samples[first : start + window].reshape(-1, _MOMENT)
        end = first + int((moments**2).mean(axis=1).argmin()) * _MOMENT + _MOMENT // 2
        pieces.append((start, end))
        start = end
    return ([*pieces, (start, len(samples))] if len(samples) > start else pieces), None
