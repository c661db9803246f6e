"""One clock for frames, sound and text, wherever a file's own clock begins, and wherever it restarts."""

import dataclasses
import pathlib

import av
import numpy as np
import pytest
from helpers import media
from helpers.media import Track
from helpers.recognising import Counting, run, sample

from data_prep.clip import prepare
from data_prep.corpora import Sample
from data_prep.media import audio, samples, video
from data_prep.speech import subtitles

FILM = [media.numbered(k) for k in range(60)]
TONE = media.tone(48000, 2)
SETTINGS = {"image_size": media.SIDE, "max_frames": 30, "frames": "raw"}


def film(path: pathlib.Path, begins: float = 0, sound_begins: float = 0, frames=FILM, **more) -> str:
    """Six seconds of pictures and two of sound."""
    settings = {"fps": 10, "sound": TONE, "rate": 48000, "codec": "libx264", "sound_codec": "aac"} | more
    return media.write_media(path, frames, begins=begins, sound_begins=sound_begins, **settings)


def numbers(path: str, told: list[str] | None = None) -> tuple[list[int], list[float]]:
    tell = (told if told is not None else []).append
    pictures, times = video.read_frames(path, media.SIDE, 30, raw=True, tell=tell)
    shape = (media.SIDE, media.SIDE, 3)
    return [media.number_of(np.frombuffer(picture, np.uint8).reshape(shape)) for picture in pictures], times.tolist()


def loud(samples_: np.ndarray) -> list[float]:
    """Seconds at which sound begins and ends, by turns."""
    tenths = np.abs(samples_[: len(samples_) // 1600 * 1600]).reshape(-1, 1600).max(axis=1) > 0.1
    return (np.flatnonzero(np.diff(tenths.astype(int), prepend=0, append=0)) / 10).tolist()


# ---------------------------------------------------------------- tracks that begin at different moments


CONTAINERS = [".mkv", ".mp4", ".ts"]


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_sound_that_begins_later_comes_after_silence(tmp_path, suffix):
    path = film(tmp_path / f"a{suffix}", sound_begins=3)
    assert numbers(path) == ([0, 10, 20, 30, 40, 50], [0, 1, 2, 3, 4, 5])
    assert loud(audio.waveform(path)) == pytest.approx([3, 5], abs=0.11)
    assert (audio.waveform(path)[: 16000 * 29 // 10] == 0).all()
    assert samples.begin(path) == pytest.approx(3, abs=0.03)
    log_mel = audio.read_fbank(path).astype(np.float32).max(axis=1)
    assert (log_mel[:550] < 0).all() and (log_mel[650:1000] > 0).all()


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_sound_that_begins_earlier_counts_whole(tmp_path, suffix):
    path = film(tmp_path / f"a{suffix}", begins=2, sound=media.tone(48000, 5))
    assert numbers(path) == ([0, 10, 20, 30, 40, 50], [0, 1, 2, 3, 4, 5])
    assert loud(audio.waveform(path)) == pytest.approx([0, 5], abs=0.11)
    assert samples.begin(path) == pytest.approx(-2, abs=0.05)


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_delays_of_encoders_are_no_offset(tmp_path, suffix):
    path = film(tmp_path / f"a{suffix}", sound_begins=0.05)
    assert samples.begin(path) == 0 and abs(audio.waveform(path)[:1600]).max() > 0.3


def test_sound_without_pictures_begins_at_its_begin(tmp_path):
    path = film(tmp_path / "a.mkv", frames=[], sound_begins=3600, options={"avoid_negative_ts": "disabled"})
    assert samples.begin(path) == 0 and loud(audio.waveform(path)) == [0, 2]


def test_a_hole_in_the_sound_is_silence(tmp_path):
    """As where a recorder was muted, or packets are lost."""
    whole, path = film(tmp_path / "whole.mkv", sound=media.tone(48000, 6)), tmp_path / "a.mkv"
    with av.open(whole) as old, av.open(str(path), "w") as new:
        streams = {stream.index: new.add_stream_from_template(stream) for stream in old.streams}
        for packet in old.demux():
            sound = packet.stream.type == "audio"
            if packet.dts is not None and not (sound and 2 <= packet.pts * packet.time_base < 4):
                packet.stream = streams[packet.stream.index]
                new.mux(packet)
    assert loud(audio.waveform(str(path))) == pytest.approx([0, 2, 4, 6], abs=0.11)
    blocks = list(audio.blocks(str(path), 1.5))
    np.testing.assert_array_equal(np.concatenate(blocks), audio.waveform(str(path)))


def test_absurd_gaps_are_told_and_left_out(tmp_path):
    whole, path, told = film(tmp_path / "whole.mkv"), tmp_path / "a.mkv", []
    with av.open(whole) as old, av.open(str(path), "w") as new:
        track = new.add_stream_from_template(old.streams.audio[0])
        for packet in old.demux(old.streams.audio[0]):
            if packet.dts is not None:
                packet.pts, packet.dts = (stamp + 10**9 * (stamp >= 1000) for stamp in (packet.pts, packet.dts))
                packet.stream = track
                new.mux(packet)
    assert abs(sum(map(len, samples.pieces(str(path), 16000, told.append))) - 32000) < 2000
    assert told == ["its time stamps jump by 1000000 s at 1.0 s; it goes on without a pause"]


# ---------------------------------------------------------------- text and speech


@pytest.mark.parametrize("begins", [0, 2, 3600])
def test_text_inside_and_beside_is_on_the_clock_of_the_frames(tmp_path, begins):
    """A line a second after the first picture and one after the second, in a file whose clock begins late."""
    path = tmp_path / "a.mkv"
    media.write_tracks(path, Track("libx264", FILM), Track("subrip", ["Good morning.", "Good night."]), text_begins=1)
    moved(path, begins)
    _, speech = subtitles.read(str(path))
    assert [part["start"] for part in speech["segments"]] == [1, 2]
    for clock in {0, begins if begins > 60 else 0}:  # as players count, or by the file's own clock
        beside = tmp_path / "a.srt"
        beside.write_text("\n".join(f"{k}\n{stamp(clock + k)} --> {stamp(clock + k + 1)}\nLine {k}.\n" for k in (1, 2)))
        clip = prepare(clip_of(path, beside), SETTINGS)
        assert [part["start"] for part in clip.speech["segments"]] == [1, 2]
        assert clip.frame_times.tolist() == [0, 1, 2, 3, 4, 5]
    assert subtitles.read(str(beside))[1]["segments"][0]["start"] == clock + 1  # alone, as it says


def test_text_beside_sound_that_begins_earlier(tmp_path):
    """Players count from the begin of the sound; frames count from the first picture."""
    path, beside = film(tmp_path / "a.mkv", begins=2), tmp_path / "a.srt"
    beside.write_text(f"1\n{stamp(1)} --> {stamp(2)}\nBefore.\n\n2\n{stamp(5)} --> {stamp(6)}\nWithin.\n")
    clip = prepare(clip_of(path, beside), SETTINGS)
    assert [part["start"] for part in clip.speech["segments"]] == pytest.approx([-1, 3], abs=0.05)


def moved(path: pathlib.Path, seconds: float) -> None:
    """All packets, that much later."""
    early = path.rename(path.with_stem("early"))
    options = {"avoid_negative_ts": "disabled"}
    with av.open(str(early)) as old, av.open(str(path), "w", container_options=options) as new:
        streams = {stream.index: new.add_stream_from_template(stream) for stream in old.streams}
        for packet in old.demux():
            if packet.dts is not None:
                offset = round(seconds / packet.time_base)
                packet.pts, packet.dts = packet.pts + offset, packet.dts + offset
                packet.stream = streams[packet.stream.index]
                new.mux(packet)


def stamp(seconds: float) -> str:
    return f"{int(seconds) // 3600:02}:{int(seconds) // 60 % 60:02}:{seconds % 60:06.3f}".replace(".", ",")


def clip_of(path: pathlib.Path | str, beside: pathlib.Path) -> Sample:
    return dataclasses.replace(sample(pathlib.Path(path)), subtitles=str(beside))


@pytest.mark.parametrize(("begins", "sound_begins"), [(0, 0), (0, 3), (2, 0)])
def test_rows_of_the_recogniser_are_on_the_clock_of_the_frames(tmp_path, begins, sound_begins):
    path = film(tmp_path / "a.mkv", begins, sound_begins)
    for engine in (Counting(), Counting()):  # the second one asks the cache
        _, rows = run(tmp_path, [sample(pathlib.Path(path))], engine)
        assert rows[0]["segments"][0]["start"] == pytest.approx(-begins, abs=0.05)
    assert engine.calls == 0 and rows[0]["text"] == f"Number {20 + 10 * sound_begins} is said."


# ---------------------------------------------------------------- clocks that restart


def joined(folder: pathlib.Path, *begins: float) -> str:
    """MPEG-TS of parts that each have a clock of their own; pictures and sound go on."""
    parts = []
    for number, begin in enumerate(begins):
        frames = [media.numbered(60 * number + k) for k in range(60)]
        options = {"avoid_negative_ts": "disabled", "mpegts_copyts": "1"}
        sound = media.tone(48000, 6)
        part = film(folder / f"{number}.ts", begin, begin, frames, options=options, sound=sound)
        parts.append(pathlib.Path(part).read_bytes())
    path = folder / "joined.ts"
    path.write_bytes(b"".join(parts))
    return str(path)


CLOCKS = [(0, 0), (50000, 0), (0, 50000), (0, 40), (95440, 0), (10, 0, 300)]  # MPEG-TS wraps at 95443.7 s


@pytest.mark.parametrize("begins", CLOCKS)
def test_parts_that_were_joined_follow_each_other(tmp_path, begins):
    told: list[str] = []
    path, length = joined(tmp_path, *begins), 6 * len(begins)
    got, times = numbers(path, told)
    assert got == list(range(0, 10 * length, 10)) and times == pytest.approx(range(length), abs=0.11)
    assert told == [f"its clock restarts or jumps, {len(begins) - 1} times; here it goes on"]
    heard = audio.waveform(path)
    assert abs(len(heard) / 16000 - length) < 0.3 and loud(heard) == pytest.approx([0, length], abs=0.3)


def test_a_short_pause_stays_a_pause(tmp_path):
    path, told = joined(tmp_path, 0, 10), []
    assert numbers(path, told)[1] == pytest.approx([*range(6), *range(10, 16)], abs=0.11) and told == []
    assert loud(audio.waveform(path)) == pytest.approx([0, 6, 10, 16], abs=0.2)


def test_a_large_file_is_read_again_on_the_same_clock(tmp_path, monkeypatch):
    monkeypatch.setattr("data_prep.media.decode._HELD", 0)
    assert numbers(joined(tmp_path, 50000, 0))[0] == list(range(0, 120, 10))
