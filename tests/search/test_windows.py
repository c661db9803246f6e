"""Files as windows: where they begin, what is said in each, and what stands in for what is missing."""

import itertools
import math

import numpy as np
import pytest
import simplejpeg
from helpers import media
from helpers.library import FPS, write_video

from data_prep.media.opening import MediaError
from save_jax.search import windows
from save_jax.search.windows import Cut, words_between


@pytest.mark.parametrize(
    ("duration", "starts"),
    [(0.5, [0]), (4, [0]), (12, [0]), (12.5, [0]), (13, [0]), (13.5, [0, 6]), (19, [0, 6]), (19.5, [0, 6, 12])],
)
def test_windows_begin_every_hop(duration, starts):
    assert Cut().starts(duration) == starts


def test_an_hour_is_covered_to_its_end():
    starts = Cut().starts(3600)
    assert len(starts) == 599 and starts[-1] == 3588 and set(np.diff(starts)) == {6}


def test_no_word_is_lost_or_said_twice_in_windows_that_meet():
    rng = np.random.default_rng(0)
    begins = np.sort(rng.uniform(-1, 60, 30))
    segments = [
        {"start": float(at), "end": float(at + rng.uniform(0, 15)), "text": " ".join(f"w{k}.{n}" for n in range(7))}
        for k, at in enumerate(begins)
    ]
    edges = [-math.inf, *range(12, 60, 12), math.inf]
    said = [words_between(segments, low, high).split() for low, high in itertools.pairwise(edges)]
    assert sorted(word for words in said for word in words) == sorted(
        word for segment in segments for word in segment["text"].split()
    )
    long = [{"start": 0.0, "end": 24.0, "text": "one two three four"}]
    assert [words_between(long, low, low + 12) for low in (0, 12, 24)] == ["one two", "three four", ""]
    assert words_between([{"start": 3.0, "end": 3.0, "text": "now"}], 0, 6) == "now"


def test_windows_have_the_pictures_sound_and_words_of_their_seconds(tmp_path):
    path = tmp_path / "a.mp4"
    frames = [media.numbered(10 * (k // FPS)) for k in range(5 * FPS)]
    sound = np.concatenate([np.zeros(2 * 16000, np.float32), media.tone(16000, 3)])
    media.write_media(path, frames, fps=FPS, sound=sound)
    segments = [{"start": -0.5, "end": -0.1, "text": "early"}, {"start": 3.1, "end": 3.9, "text": "four"}]
    segments += [{"start": 5.2, "end": 5.9, "text": "late"}]
    made = list(windows.read(str(path), segments, 64, 2, Cut(2.0, 1.0), pytest.fail))
    assert [(w.number, w.start, w.end) for w in made] == [(0, 0, 2), (1, 1, 3), (2, 2, 5)]
    assert [w.clip.frame_times.tolist() for w in made] == [[0, 1], [1, 2], [2, 4]]
    for window in made:
        shown = [media.number_of(simplejpeg.decode_jpeg(frame)) for frame in window.clip.frames]
        assert shown == [10 * int(time) for time in window.clip.frame_times]
        assert media.number_of(simplejpeg.decode_jpeg(window.picture)) in shown
    assert [w.clip.transcript for w in made] == ["early", "", "four late"]
    quiet, _, loud = (w.clip.fbank.astype(np.float32).max() for w in made)
    assert loud > quiet + 0.5


def test_the_last_window_goes_on_to_the_end(tmp_path):
    """What lies within a second after it is no window of its own, and not lost."""
    path = write_video(tmp_path / "a.mp4", 3)
    [window] = windows.read(str(path), [{"start": 2.2, "end": 2.9, "text": "end"}], 64, 2, Cut(2.0, 1.0))
    assert (window.end, window.clip.transcript) == (3, "end") and window.clip.frame_times.tolist() == [0, 2]


def test_a_picture_stands_until_the_next(tmp_path):
    """A screen that rests for longer than a window."""
    path = tmp_path / "a.mp4"
    media.write_media(path, [media.numbered(n) for n in (1, 2, 3)], times=[0, 1, 30])
    made = list(windows.read(str(path), [], 64, 2, Cut(2.0, 2.0)))
    assert all(w.clip.frames and w.picture for w in made)
    assert made[7].clip.frame_times.tolist() == [14] and made[-1].clip.frame_times.tolist()[-1] == 30


def test_sound_that_begins_before_the_pictures_stays_in_step(tmp_path):
    path = tmp_path / "a.mkv"
    frames = [media.numbered(k) for k in range(3 * FPS)]
    sound = np.concatenate([np.zeros(3 * 16000, np.float32), media.tone(16000, 2)])
    media.write_media(path, frames, fps=FPS, sound=sound, begins=2, codec="libx264")
    first, last = windows.read(str(path), [], 64, 1, Cut(1.0, 1.0))
    loud = [w.clip.fbank[: round(90 * (w.end - w.start))].astype(np.float32) for w in (first, last)]
    assert loud[1].max() > loud[0].max() + 0.5  # the tone is heard from the first second of the pictures on


def test_sound_that_does_not_decode_costs_the_sound_alone(tmp_path):
    path = write_video(tmp_path / "a.mkv", 3)
    told: list[str] = []
    media.write_media(
        path, [media.numbered(k) for k in range(24)], fps=FPS, sound=media.tone(16000, 3), codec="libx264",
        sound_codec="flac",
    )  # fmt: skip
    data = path.read_bytes()
    at = data.index(b"fLaC")  # the codec's own header
    path.write_bytes(data[: at + 8] + b"\0" * 30 + data[at + 38 :])
    made = list(windows.read(str(path), [], 64, 2, Cut(2.0, 1.0), told.append))
    assert len(made) == 1 and made[0].clip.frames
    assert made[0].clip.fbank is None and [line for line in told if line.startswith("sound:")]


def test_sound_that_goes_on_after_the_pictures_is_heard(tmp_path):
    """And what is said in it; the last picture still stands."""
    path = tmp_path / "a.mp4"
    sound = np.concatenate([np.zeros(15 * 16000, np.float32), media.tone(16000, 5)])
    media.write_media(path, [media.numbered(10 * (k // FPS)) for k in range(3 * FPS)], fps=FPS, sound=sound)
    segments = [{"start": 16.0, "end": 17.0, "text": "late words"}]
    made = list(windows.read(str(path), segments, 64, 2, Cut(4.0, 4.0), pytest.fail))
    assert [w.start for w in made] == [0, 4, 8, 12, 16] and made[-1].end == pytest.approx(20, abs=0.1)
    assert [w.clip.transcript for w in made] == [""] * 4 + ["late words"]
    for window in made[1:]:
        assert window.clip.frame_times.tolist() == [window.start]
        assert media.number_of(simplejpeg.decode_jpeg(window.picture)) == 20
    loud = [w.clip.fbank.astype(np.float32).max() for w in made]
    assert min(loud[3:]) > max(loud[:3]) + 0.5


def test_words_that_come_after_the_file_are_in_it(tmp_path):
    """Those that come long after it make no windows of their own, and are not lost."""
    path = write_video(tmp_path / "a.mp4", 3)
    segments = [{"start": 8.0, "end": 9.0, "text": "late"}, {"start": 9e5, "end": 9e5 + 1, "text": "damaged"}]
    made = list(windows.read(str(path), segments, 64, 2, Cut(4.0, 4.0), pytest.fail))
    assert [(w.start, w.end, w.clip.transcript) for w in made] == [(0, 4, ""), (4, 9, "late damaged")]
    assert made[1].clip.fbank is None and made[1].clip.frame_times.tolist() == [4]


def test_a_file_without_pictures_is_an_error(tmp_path):
    path = tmp_path / "a.m4a"
    media.write_media(path, sound=media.tone(16000, 1))
    with pytest.raises(MediaError, match=r"a\.m4a"):
        list(windows.read(str(path), [], 64, 2, Cut()))
