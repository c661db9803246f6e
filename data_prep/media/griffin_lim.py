"""A sound with about a given log-mel, to listen to what a model hears."""

import os
import warnings

import numpy as np
import scipy.signal

from data_prep.media import audio

ROUNDS = 32  # of looking for phases that fit


def approximate(fbank: np.ndarray, seconds: float) -> np.ndarray:
    """float32 [16000 · seconds]: a sound with about this log-mel, [1024, 128], by Griffin and Lim's method.

    What a log-mel does not keep is made up: phases, pitch within a mel bin, and what goes on between two of its steps.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # it says that PyTorch is absent; it is meant to be
    from transformers.audio_utils import mel_filter_bank

    rate, hop, window, transform = audio.SAMPLE_RATE, 160, 400, 512
    log_mel = fbank.astype(np.float32) * (2 * audio.STD) + audio.MEAN
    heard = (np.abs(log_mel) > 0.01).any(axis=1)  # rows beyond the sound's end are 0
    log_mel = log_mel[: 1 + np.flatnonzero(heard).max(initial=0)]
    steps = max(4, round(seconds * rate / hop))
    position = np.linspace(0, len(log_mel) - 1, steps)
    rows = np.stack([np.interp(position, np.arange(len(log_mel)), column) for column in log_mel.T])
    with warnings.catch_warnings(action="ignore"):  # the lowest bins are narrower than the transform's and stay empty
        bank = mel_filter_bank(
            transform // 2 + 1, len(rows), 20, rate / 2, rate, mel_scale="kaldi", triangularize_in_mel_space=True
        )
    size = np.sqrt(np.maximum(np.linalg.pinv(bank.T) @ np.exp(rows), 0))
    settings = {"fs": rate, "window": "hann", "nperseg": window, "noverlap": window - hop, "nfft": transform}
    spectrum = size * np.exp(2j * np.pi * np.random.default_rng(0).random(size.shape))
    for _ in range(ROUNDS):
        samples = scipy.signal.istft(spectrum, **settings)[1]
        spectrum = size * np.exp(1j * np.angle(scipy.signal.stft(samples, **settings)[2][:, :steps]))
    samples = scipy.signal.lfilter([1], [1, -0.97], scipy.signal.istft(spectrum, **settings)[1])  # undo pre-emphasis
    return (0.5 * samples / max(np.abs(samples).max(), 1e-9)).astype(np.float32)
