"""Sound of one media file as the picture that VLSA reads: a log-frequency spectrogram of 5.94 s.

In: a path; out: float16 [256, 256], or None where there is no sound. The numbers are those of VLSA (arXiv 2405.07202):
mono at 11,025 Hz, windows of 1,022 samples every 256, 512 frequencies resampled to 256 on PixelPlayer's ("The Sound of
Pixels") logarithmic scale. The paper says neither which part of a longer sound it takes nor how it takes the
logarithm; here it is the middle, and decibels.
"""

import numpy as np
import scipy.signal

from data_prep.media import audio
from save_jax.data.records import SPECTROGRAM_SHAPE

SAMPLE_RATE = 11_025
WINDOW, HOP = 1022, 256
ROWS, COLUMNS = SPECTROGRAM_SHAPE
SAMPLES = COLUMNS * HOP  # 65,536
QUIETEST = 1e-4  # -80 dB: what is quieter counts as silence
_BASE = 21  # of PixelPlayer's scale: rows at the top are 21 times as far apart as at the bottom


def read_spectrogram(path: str) -> np.ndarray | None:
    """float16 [256 frequencies, low first, 256 times] of the middle of a file's sound, as `spectrogram` has it.

    None without a sound track or with an empty one. Memory stays bounded for a track of any length. Raises MediaError
    as `audio.waveform` does.
    """
    with audio.whole_track(path, SAMPLE_RATE) as (samples, _):
        return spectrogram(middle(samples)) if len(samples) else None


def middle(samples: np.ndarray) -> np.ndarray:
    """float32 [65536]: the middle of a longer sound; a shorter one from its begin, and silence after it."""
    first = max(0, (len(samples) - SAMPLES) // 2)
    part = np.array(samples[first : first + SAMPLES], np.float32)
    return np.pad(part, (0, SAMPLES - len(part)))


def spectrogram(samples: np.ndarray) -> np.ndarray:
    """float32 [65536] at 11,025 Hz, full scale 1 → float16 [256, 256]: -1 is silence, 1 a sine of full scale.

    Column k looks at the 1,022 samples around sample 256·k, as PixelPlayer's does, and both ends are continued with
    silence: k from 0 to 255 makes 256 columns. A track of floats that is louder than full scale goes above 1.
    """
    window = scipy.signal.get_window("hann", WINDOW)
    # Scaled by the window's sum, and by 2 for the negative frequencies: a sine of amplitude 1 has magnitude 1.
    transform = scipy.signal.ShortTimeFFT(window, HOP, SAMPLE_RATE, fft_mode="onesided2X", scale_to="magnitude")
    amplitude = np.abs(transform.stft(samples, p0=0, p1=COLUMNS))  # [512, 256]
    position = row_positions()
    low = np.minimum(position.astype(int), len(amplitude) - 2)
    part = (position - low)[:, None]
    rows = (1 - part) * amplitude[low] + part * amplitude[low + 1]
    return (np.log10(np.maximum(rows, QUIETEST)) / 2 + 1).astype(np.float16)


def row_positions() -> np.ndarray:
    """float64 [256]: where each row lies among the 512 frequencies, from 0 (0 Hz) to 511 (5,512.5 Hz)."""
    u = np.linspace(0, 1, ROWS)
    return (WINDOW // 2) * (_BASE**u - 1) / (_BASE - 1)
