"""Sounds at 16 kHz for the tests of speech: sentences spoken by espeak-ng, noise, music, silence."""

import numpy as np

from data_prep.demo import sounds as demo_sounds
from data_prep.demo import speech as demo_speech

RATE = 16000


def spoken(sentence: str, voice: str = "en") -> np.ndarray:
    """float32 [samples] at half amplitude."""
    return _resampled(0.5 * demo_speech.speak(sentence, voice, 150))


def music(seconds: float) -> np.ndarray:
    samples = demo_sounds.make_music(np.random.default_rng(3), round(seconds * demo_sounds.SOUND_RATE))
    return _resampled(0.1 * samples)


def noise(seconds: float) -> np.ndarray:
    return (0.1 * np.random.default_rng(0).normal(size=round(seconds * RATE))).astype(np.float32)


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE), np.float32)


def _resampled(samples: np.ndarray) -> np.ndarray:
    count = int(len(samples) * RATE / demo_speech.SPEECH_RATE)
    places = np.arange(count) * demo_speech.SPEECH_RATE / RATE
    return np.interp(places, np.arange(len(samples)), samples).astype(np.float32)
