"""VLSA's spectrogram against a plain DFT; where a tone, a click, silence and the middle of a long track are seen."""

import pathlib

import numpy as np
import pytest
from helpers import media

from data_prep.media import audio, spectrogram
from data_prep.media.decode import MediaError

RATE = 11_025
BINS = RATE / 1022  # hertz between two frequencies of the transform


def plain(samples: np.ndarray, columns: list[int]) -> np.ndarray:
    """float64 [256, columns], by the definitions, without a library's transform or window."""
    n = np.arange(1022)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * n / 1022)
    transform = np.exp(-2j * np.pi * np.outer(np.arange(512), n) / 1022)
    around = np.concatenate([np.zeros(511), samples, np.zeros(511)])  # so that sample 256·k is in the middle
    pieces = np.stack([around[256 * k : 256 * k + 1022] * window for k in columns], axis=1)
    amplitude = np.abs(transform @ pieces) / window.sum()
    amplitude[1:-1] *= 2  # half of a sine is at the negative frequency; 0 Hz and Nyquist have none
    nyquist = RATE / 2
    wanted = [nyquist * (21 ** (row / 255) - 1) / 20 for row in range(256)]
    rows = np.stack([np.interp(wanted, np.linspace(0, nyquist, 512), column) for column in amplitude.T], axis=1)
    return np.log10(np.maximum(rows, 1e-4)) / 2 + 1


def sine(hertz: float, samples: int = spectrogram.SAMPLES) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(samples) / RATE).astype(np.float32)


def write(path: pathlib.Path, samples: np.ndarray, **options) -> str:
    return media.write_media(path, sound=samples, rate=RATE, sound_codec="pcm_f32le", **options)


def test_against_a_plain_transform():
    rng = np.random.default_rng(0)
    samples = (0.1 * rng.normal(size=spectrogram.SAMPLES) + 0.3 * sine(440) + 0.05).astype(np.float32)
    samples[30_000:40_000] *= 1e-3
    columns = [0, 1, 2, 100, 117, 130, 155, 254, 255]
    found = spectrogram.spectrogram(samples)
    assert found.dtype == np.float16 and found.shape == (256, 256)
    np.testing.assert_allclose(found[:, columns], plain(samples, columns), atol=1e-3)
    np.testing.assert_array_equal(spectrogram.spectrogram(np.zeros_like(samples)), -1)


def test_rows_are_spaced_as_pixelplayer_does():
    position = spectrogram.row_positions()
    assert position[0] == 0 and position[-1] == 511 and (np.diff(position) > 0).all()
    np.testing.assert_allclose(position[[51, 102]], [511 * (21**0.2 - 1) / 20, 511 * (21**0.4 - 1) / 20])
    np.testing.assert_allclose(np.diff(position)[-1] / np.diff(position)[0], 21 ** (254 / 255))


@pytest.mark.parametrize("loud, value", [(1, 1), (0.1, 0.5), (0.01, 0), (0.001, -0.5), (1e-5, -1)])
def test_a_sine_has_its_row_and_its_level(loud, value):
    position = spectrogram.row_positions()
    near = [row for row in range(60, 255) if abs(position[row] - round(position[row])) < 0.02]
    assert len(near) >= 3
    for row in near:
        found = spectrogram.spectrogram(loud * sine(round(position[row]) * BINS))[:, 2:-2].astype(np.float32)
        np.testing.assert_allclose(found[row], value, atol=0.01)
        if value > -1:
            assert (found.argmax(axis=0) == row).all() and found[:20].max() <= -0.99


def test_a_click_has_its_column():
    samples = np.zeros(spectrogram.SAMPLES, np.float32)
    samples[256 * 77] = 1
    found = spectrogram.spectrogram(samples)
    assert (found.argmax(axis=1)[1:-1] == 77).all()
    assert (found[:, :75] == -1).all() and (found[:, 80:] == -1).all()


def test_the_middle_of_a_long_track_and_silence_after_a_short_one(tmp_path, monkeypatch):
    side = np.full(20_000, 0.9, np.float32) * sine(3000, 20_000)
    long = np.concatenate([side[1:], sine(500), side])  # the middle begins where the sine does, rounded down
    found = spectrogram.read_spectrogram(write(tmp_path / "long.wav", long))
    np.testing.assert_array_equal(found, spectrogram.spectrogram(sine(500)))
    monkeypatch.setattr(audio, "_IN_MEMORY", 1000)  # as for hours of sound: through a temporary file
    np.testing.assert_array_equal(spectrogram.read_spectrogram(str(tmp_path / "long.wav")), found)
    short = spectrogram.read_spectrogram(write(tmp_path / "short.wav", sine(500, 2560)))
    assert (short[:, 12:] == -1).all() and (short[:, 1:9].max(axis=0) > 0.9).all()
    one = spectrogram.read_spectrogram(write(tmp_path / "one.wav", np.ones(1, np.float32)))
    assert (one[:, 2:] == -1).all() and one[:, 0].max() > -1


@pytest.mark.parametrize("rate, channels", [(44_100, 2), (48_000, 1), (8_000, 2), (11_025, 2)])
def test_the_same_sound_in_any_layout(tmp_path, rate, channels):
    reference = spectrogram.spectrogram(0.5 * sine(440)).astype(np.float32)
    path = media.write_media(tmp_path / "a.wav", sound=media.tone(rate, 7), rate=rate, channels=channels)
    found = spectrogram.read_spectrogram(path)[:, 2:-2].astype(np.float32)
    loud = reference[:, 2:-2] > 0
    assert loud.any() and np.abs(found - reference[:, 2:-2])[loud].max() < 0.02


def test_no_sound_and_no_file(tmp_path):
    silent = media.write_media(tmp_path / "silent.mp4", [media.numbered(0)] * 5)
    empty = media.write_media(tmp_path / "empty.mp4", [media.numbered(0)] * 5, sound=np.zeros(0, np.float32))
    assert spectrogram.read_spectrogram(silent) is None and spectrogram.read_spectrogram(empty) is None
    with pytest.raises(MediaError, match="no such file"):
        spectrogram.read_spectrogram(str(tmp_path / "missing.wav"))
