"""Sound of one media file: mono samples, at 16 kHz where no other rate is asked for, and the log-mel that AST reads.

In: a path; out: float16 [1024, 128], or None where there is no sound. The spectrogram is what AVIGATE's loader gets
from torchaudio's Kaldi fbank, with the frame shift stretched so that the whole track spans 1,024 frames;
kaldi-native-fbank computes it here. The whole track counts, also where it lasts longer than the picture. It lies on the
clock of the pictures: `samples` says how, `tracks` which of several tracks is heard.
"""

import contextlib
import importlib.metadata
import tempfile
from collections.abc import Iterator

import kaldi_native_fbank as knf
import numpy as np

from data_prep.media.samples import pieces
from data_prep.media.tracks import Tell, silent
from save_jax.data.records import FBANK_SHAPE

SAMPLE_RATE = 16000
_WINDOW_MS = 25
_WINDOW = SAMPLE_RATE * _WINDOW_MS // 1000
MEAN, STD = -5.118, 3.2527153  # AST's AudioSet statistics; the reference divides by twice the deviation
_IN_MEMORY = 2**26  # bytes of samples, 17 minutes; a longer track goes through a temporary file


# ---------------------------------------------------------------- samples


def blocks(path: str, seconds: float) -> Iterator[np.ndarray]:
    """float32 [seconds · 16000], mono, in [-1, 1], one after the other; the last may be shorter, no sound gives none.

    Holds one block in memory. Raises MediaError as `waveform` does.
    """
    size, held, count = round(seconds * SAMPLE_RATE), [], 0
    for piece in pieces(path, SAMPLE_RATE):
        held.append(piece)
        count += len(piece)
        while count >= size:
            joined = np.concatenate(held)
            block, held, count = joined[:size].copy(), [joined[size:].copy()], count - size
            del joined  # while the block is used
            yield block
    if count:
        yield np.concatenate(held)


def waveform(path: str) -> np.ndarray | None:
    """float32 [samples], mono, 16 kHz, in [-1, 1], from the first picture or earlier (`samples.begin`); None without a
    sound track or with an empty one.

    Holds the whole track: 230 MB an hour. Raises MediaError where the file cannot be opened, holds a sound track of
    which nothing decodes, or holds samples that are no numbers or absurdly loud.
    """
    parts = list(pieces(path, SAMPLE_RATE))
    return np.concatenate(parts) if parts else None


@contextlib.contextmanager
def whole_track(
    path: str, sample_rate: int = SAMPLE_RATE, tell: Tell = silent
) -> Iterator[tuple[np.ndarray, np.float32]]:
    """float32 [samples], mono, of the whole track, and their mean; [0] without one or with an empty one.

    Memory stays bounded for a track of any length. Beyond 17 minutes its samples (230 MB an hour at 16 kHz) pass
    through a file in the temporary directory. Raises MediaError as `waveform` does.
    """
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as spool:
        total = 0.0
        for piece in pieces(path, sample_rate, tell):
            total += piece.sum(dtype=np.float64)
            spool.write(piece.data)
        size = spool.tell()
        if size > _IN_MEMORY:
            spool.flush()
            samples = np.memmap(spool, np.float32, "r")
        else:
            spool.seek(0)
            samples = np.frombuffer(spool.read(), np.float32)
        yield samples, np.float32(total / max(1, len(samples)))


# ---------------------------------------------------------------- log-mel


def read_fbank(path: str, tell: Tell = silent) -> np.ndarray | None:
    """float16 [1024, 128] of the file's whole sound track, normalised; None without one or with an empty one.

    Memory stays bounded for a track of any length: where windows begin depends on the length, which is known at the
    end only, so that `whole_track` keeps it. `tell` hears of what was guessed. Raises MediaError as `waveform` does.
    """
    with whole_track(path, tell=tell) as (samples, mean):
        return log_mel(samples, mean).astype(np.float16) if len(samples) else None


def fbank(samples: np.ndarray) -> np.ndarray:
    """float32 [samples] at 16 kHz → float16 [1024, 128], normalised. Rows beyond the sound's end are 0 in log-mel."""
    return log_mel(samples).astype(np.float16)


def window_shift(samples: int) -> int:
    """Samples from one window to the next, so that a sound of this length spans 1,024 windows."""
    return samples // FBANK_SHAPE[0]


def check_library() -> None:
    """Raises ValueError where the kaldi-native-fbank that is installed cannot compute AST's input.

    1.23.0 refuses 128 mel bins of windows this short. Clip by clip that would read as "no sound", so it is asked first.
    """
    try:
        log_mel(np.ones(SAMPLE_RATE, np.float32))
    except ValueError as error:
        raise ValueError(
            f"kaldi-native-fbank {importlib.metadata.version('kaldi-native-fbank')} cannot compute what AST hears "
            f"({error}), so every clip would lose its sound; pip install 'kaldi-native-fbank>=1.22,<1.23'"
        ) from None


def kaldi_options(shift: int) -> knf.FbankOptions:
    """The settings of AVIGATE's call of torchaudio's Kaldi fbank."""
    options = knf.FbankOptions()
    options.frame_opts.samp_freq = SAMPLE_RATE
    options.frame_opts.frame_length_ms = _WINDOW_MS
    options.frame_opts.frame_shift_ms = shift * 1000 / SAMPLE_RATE  # a whole number of samples
    options.frame_opts.window_type = "hanning"
    options.frame_opts.dither = 0.0
    options.mel_opts.num_bins = FBANK_SHAPE[1]
    options.use_energy = False
    options.htk_compat = True
    return options


def log_mel(samples: np.ndarray, mean: np.float32 | None = None) -> np.ndarray:
    """As `fbank`, before rounding to float16. `mean`: of the samples, where the caller knows it."""
    rows = FBANK_SHAPE[0]
    mean = samples.mean(dtype=np.float64).astype(np.float32) if mean is None else mean
    shift = max(1, window_shift(len(samples)))  # 0 under 1,024 samples, where the reference stops with an assertion
    padding = max(0, rows - len(samples))
    if shift > _WINDOW:  # windows that do not touch: what lies between them is not even read
        samples = np.lib.stride_tricks.sliding_window_view(samples, _WINDOW)[::shift][:rows].reshape(-1)
        shift = _WINDOW
    samples = np.pad(samples - mean, (0, padding))
    kaldi = knf.OnlineFbank(kaldi_options(shift))
    # An array itself is converted twice as slowly. Its stubs know lists alone.
    kaldi.accept_waveform(SAMPLE_RATE, samples.data)  # pyright: ignore[reportArgumentType]
    kaldi.input_finished()
    mel = np.zeros(FBANK_SHAPE, np.float32)
    for row in range(min(rows, kaldi.num_frames_ready)):
        mel[row] = kaldi.get_frame(row)
    return (mel - MEAN) / (2 * STD)
