"""Synthesises the sound beds of the demo corpus in NumPy: twelve events and endless varieties of music.

Every maker takes random numbers and a length in samples, returns mono float samples at SOUND_RATE, and varies pitch,
tempo and timbre. The events differ in spectrum and rhythm, so that a listener, or a model of spectrograms, can tell
them apart.
"""

from collections.abc import Callable

import numpy as np

SOUND_RATE = 22050  # what espeak-ng speaks at; the audio encoder of the model hears 16 kHz
Rng = np.random.Generator


def make_event(name: str, rng: Rng, samples: int) -> np.ndarray:
    """An event that lasts the whole clip, with an RMS of 1."""
    return _unit_rms(_MAKERS[name](rng, samples))


def make_music(rng: Rng, samples: int) -> np.ndarray:
    """A random chord progression with a melody above it, in a random timbre, tempo and key; RMS 1."""
    beat = rng.uniform(0.25, 0.5)
    key = 110 * 2 ** (rng.integers(12) / 12)
    scale = np.array([0, 2, 4, 5, 7, 9, 11]) if rng.random() < 0.5 else np.array([0, 2, 3, 5, 7, 8, 10])
    overtones = rng.uniform(0, 1, 5) / np.arange(1, 6)
    overtones[0] = 1
    decay = rng.uniform(0.3, 1.5)
    out = np.zeros(samples)
    for i, start in enumerate(np.arange(0, samples / SOUND_RATE, beat)):
        if i % 4 == 0:
            root = rng.integers(7)
            for step in (0, 2, 4):
                _add(out, start, _note(key * _pitch(scale, root + step), 4 * beat, overtones, 2 * decay), 0.5)
        if rng.random() < 0.8:
            _add(out, start, _note(2 * key * _pitch(scale, rng.integers(8)), 2 * beat, overtones, decay))
    return _unit_rms(out)


def _unit_rms(x: np.ndarray) -> np.ndarray:
    return x / np.sqrt(np.mean(x**2))


def _seconds(samples: int) -> np.ndarray:
    return np.arange(samples) / SOUND_RATE


def _time(seconds: float) -> np.ndarray:
    return _seconds(round(seconds * SOUND_RATE))


def _add(out: np.ndarray, start: float, sound: np.ndarray, gain: float = 1.0) -> None:
    first = round(start * SOUND_RATE)
    sound = sound[: max(0, len(out) - first)]
    out[first : first + len(sound)] += gain * sound


def _repeat(rng: Rng, samples: int, every: float, jitter: float, make: Callable[[int], np.ndarray]) -> np.ndarray:
    """make(0), make(1), … mixed at regular times that wander by a share of the interval; the first one comes early."""
    out = np.zeros(samples)
    start = rng.uniform(0, 0.3) * every
    i = 0
    while start * SOUND_RATE < samples:
        _add(out, start, make(i), rng.uniform(0.8, 1))
        start += every * (1 + jitter * rng.uniform(-1, 1))
        i += 1
    return out


def _band_noise(rng: Rng, samples: int, low: float, high: float, slope: float = 0.0) -> np.ndarray:
    """Noise between two frequencies, RMS 1; its amplitude spectrum falls with frequency ** slope."""
    spectrum = np.fft.rfft(rng.normal(size=samples))
    frequency = np.fft.rfftfreq(samples, 1 / SOUND_RATE)
    soft_edges = 1 / (1 + (low / np.maximum(frequency, 1)) ** 8) / (1 + (frequency / high) ** 8)
    return _unit_rms(np.fft.irfft(spectrum * soft_edges * np.maximum(frequency, 1) ** -slope, samples))


def _sweep(frequency: np.ndarray) -> np.ndarray:
    """Phase of a tone of changing frequency."""
    return 2 * np.pi * np.cumsum(frequency) / SOUND_RATE


def _hump(t: np.ndarray) -> np.ndarray:
    """Envelope that rises from zero and returns to it: no clicks at either end."""
    return np.sqrt(np.abs(np.sin(np.pi * t / t[-1])))


def _pitch(scale: np.ndarray, degree: int | np.integer) -> float:
    return 2 ** ((scale[degree % 7] + 12 * (degree // 7)) / 12)


def _note(frequency: float, seconds: float, overtones: np.ndarray, decay: float) -> np.ndarray:
    t = _time(seconds)
    tone = sum(a * np.sin(2 * np.pi * frequency * (k + 1) * t) for k, a in enumerate(overtones))
    return tone * np.exp(-t / decay) * np.minimum(1, t / 0.01) * np.minimum(1, (seconds - t) / 0.03)


def _bell(rng: Rng, samples: int) -> np.ndarray:
    base = rng.uniform(380, 620)
    # (frequency ratio, amplitude, decay in s)
    partials = ((0.5, 0.4, 2.0), (1, 1, 1.5), (1.2, 0.7, 1.0), (1.5, 0.4, 0.8), (2, 0.8, 0.8), (2.74, 0.6, 0.5))
    t = _time(2.5)
    strike = sum((a * np.exp(-t / d) * np.sin(2 * np.pi * base * r * t) for r, a, d in partials), np.zeros_like(t))
    return _repeat(rng, samples, rng.uniform(0.8, 1.4), 0.02, lambda i: strike)


def _siren(rng: Rng, samples: int) -> np.ndarray:
    t = _seconds(samples)
    swing = np.sin(2 * np.pi * t * rng.uniform(0.5, 1.2) + rng.uniform(0, 6))
    phase = _sweep(rng.uniform(850, 1100) * 2 ** (0.6 * swing))
    return np.sin(phase) + 0.4 * np.sin(2 * phase) + 0.25 * np.sin(3 * phase)


def _drumbeat(rng: Rng, samples: int) -> np.ndarray:
    pitch = rng.uniform(65, 95)
    t = _time(0.35)
    kick = np.sin(_sweep(pitch * (1 + 1.5 * np.exp(-t / 0.03)))) * np.exp(-t / 0.12)
    snare = 0.25 * _band_noise(rng, len(t), 250, 3000, 0.3) * np.exp(-t / 0.05) + 0.6 * kick
    return _repeat(rng, samples, rng.uniform(0.22, 0.4), 0.01, lambda i: snare if i % 2 else kick)


def _engine(rng: Rng, samples: int) -> np.ndarray:
    t = _seconds(samples)
    revs = rng.uniform(38, 65) * (1 + 0.15 * np.sin(2 * np.pi * rng.uniform(0.1, 0.4) * t + rng.uniform(0, 6)))
    phase = _sweep(revs)
    hum = sum(np.sin(k * phase + rng.uniform(0, 6)) / k**0.7 for k in range(1, 16))
    return hum + 0.5 * _band_noise(rng, samples, 60, 700, 0.5) * (1 + 0.5 * np.sin(phase))


def _birdsong(rng: Rng, samples: int) -> np.ndarray:
    centre = rng.uniform(3600, 4800)

    def chirp(i: int) -> np.ndarray:
        t = _time(rng.uniform(0.06, 0.14))
        bend = rng.uniform(-0.35, 0.35) * (t / t[-1] - 0.5) + 0.06 * np.sin(2 * np.pi * 35 * t)
        return np.sin(_sweep(centre * rng.uniform(0.85, 1.15) * (1 + bend))) * _hump(t)

    return _repeat(rng, samples, rng.uniform(0.14, 0.22), 0.5, chirp)


def _applause(rng: Rng, samples: int) -> np.ndarray:
    """Hundreds of short claps, each hand pair with its own pitch between 800 and 2,200 Hz."""
    t = _time(0.02)
    claps = [_band_noise(rng, len(t), f, 1.5 * f) * np.exp(-t / 0.004) for f in rng.uniform(700, 1500, 24)]
    out = np.zeros(samples)
    for start in rng.uniform(0, samples / SOUND_RATE, int(rng.uniform(60, 110) * samples / SOUND_RATE)):
        _add(out, start, claps[rng.integers(len(claps))], rng.uniform(0.3, 1))
    return out


def _rain(rng: Rng, samples: int) -> np.ndarray:
    hiss = _band_noise(rng, samples, rng.uniform(1500, 2500), 10500)
    slow = 1 + 0.15 * np.sin(2 * np.pi * rng.uniform(0.2, 0.6) * _seconds(samples))
    t = _time(0.01)
    drop = np.sin(2 * np.pi * 3000 * t) * np.exp(-t / 0.002)
    return hiss * slow + _repeat(rng, samples, 0.04, 0.9, lambda i: 3 * rng.uniform(0, 1) * drop)


def _bark(rng: Rng, samples: int) -> np.ndarray:
    base = rng.uniform(230, 330)

    def bark(i: int) -> np.ndarray:
        t = _time(rng.uniform(0.13, 0.2))
        phase = _sweep(base * (1.6 - 0.8 * t / t[-1]))
        voice = sum(np.sin(k * phase) * np.exp(-(((k * base - 800) / 500) ** 2)) for k in range(1, 8))
        return (voice + 0.4 * _band_noise(rng, len(t), 500, 1800)) * _hump(t)

    return _repeat(rng, samples, rng.uniform(0.4, 0.7), 0.3, bark)


def _ring(rng: Rng, samples: int) -> np.ndarray:
    low, trill = rng.uniform(1350, 1700), rng.uniform(18, 26)
    t = _time(0.7)
    hammer = 0.5 + 0.5 * np.sign(np.sin(2 * np.pi * trill * t))
    ring = (np.sin(2 * np.pi * low * t) * hammer + np.sin(2 * np.pi * 1.27 * low * t) * (1 - hammer)) * _hump(t)
    return _repeat(rng, samples, rng.uniform(1.0, 1.3), 0.0, lambda i: ring)


def _ticking(rng: Rng, samples: int) -> np.ndarray:
    t = _time(0.03)
    pitch = rng.uniform(5200, 6200)
    tick, tock = (np.sin(2 * np.pi * f * t) * np.exp(-t / 0.004) for f in (pitch, 0.8 * pitch))
    return _repeat(rng, samples, rng.uniform(0.22, 0.5), 0.0, lambda i: tock if i % 2 else tick)


def _whistle(rng: Rng, samples: int) -> np.ndarray:
    pitch, trill = rng.uniform(2300, 2900), rng.uniform(28, 40)

    def blow(i: int) -> np.ndarray:
        t = _time(rng.uniform(0.35, 0.7))
        tone = np.sin(_sweep(pitch * (1 + 0.03 * np.sin(2 * np.pi * trill * t))))
        air = 0.15 * _band_noise(rng, len(t), 0.8 * pitch, 1.3 * pitch)
        return (tone * (0.7 + 0.3 * np.sin(2 * np.pi * trill * t)) + air) * _hump(t)

    return _repeat(rng, samples, rng.uniform(0.75, 1.0), 0.1, blow)


def _thunder(rng: Rng, samples: int) -> np.ndarray:
    def clap(i: int) -> np.ndarray:
        t = _time(3)
        rumble = _band_noise(rng, len(t), 25, 140, 0.8)
        rolling = 1 + 0.6 * _band_noise(rng, len(t), 0.5, 4)
        crack = 0.5 * _band_noise(rng, len(t), 80, 900, 0.8) * np.exp(-t / 0.15)
        return (rumble * rolling * np.exp(-t / 1.2) + crack) * np.minimum(1, t / 0.02)

    return _repeat(rng, samples, rng.uniform(1.5, 2.2), 0.2, clap)


_MAKERS: dict[str, Callable[[Rng, int], np.ndarray]] = {
    "bell": _bell,
    "siren": _siren,
    "drumbeat": _drumbeat,
    "engine": _engine,
    "birdsong": _birdsong,
    "applause": _applause,
    "rain": _rain,
    "bark": _bark,
    "ring": _ring,
    "ticking": _ticking,
    "whistle": _whistle,
    "thunder": _thunder,
}
