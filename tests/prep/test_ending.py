"""Files whose headers say something untrue are read whole; files that were cut are told, whatever their headers say.

Also tracks that begin later than FFmpeg looks by itself.
"""

import pathlib
import struct

import numpy as np
import pytest
from helpers import media

from data_prep.media import audio, opening, samples, video
from data_prep.media.decode import MediaError


def numbers(path: pathlib.Path | str) -> list[int]:
    pictures, _ = video.read_frames(str(path), media.SIDE, 30, raw=True)
    shape = (media.SIDE, media.SIDE, 3)
    return [media.number_of(np.frombuffer(picture, np.uint8).reshape(shape)) for picture in pictures]


def noisy(count: int, side: int = media.SIDE) -> list[np.ndarray]:
    """Numbered pictures that take some room."""
    rng = np.random.default_rng(0)
    noise = [rng.integers(-60, 60, (side, side, 3)) for _ in range(count)]
    return [(media.numbered(k % 256, side) + noise[k]).clip(0, 255).astype(np.uint8) for k in range(count)]


def write(path: pathlib.Path, count: int = 50, fps: int = 10, **more) -> pathlib.Path:
    settings = {"sound": media.tone(44100, count / fps), "rate": 44100}
    if path.suffix in (".mkv", ".webm", ".mp4"):
        settings = {"sound": media.tone(48000, count / fps), "rate": 48000, "sound_codec": "libopus"}
    if path.suffix == ".mkv":
        settings["codec"] = "libx264"
    return pathlib.Path(media.write_media(path, noisy(count), fps, **settings | more))


# ---------------------------------------------------------------- untrue durations


def matroska(data: bytearray, share: float) -> None:
    at = data.index(b"\x44\x89\x88") + 3
    data[at : at + 8] = struct.pack(">d", share * struct.unpack(">d", data[at : at + 8])[0])


def mp4(data: bytearray, share: float) -> None:
    for box, offset in ((b"mvhd", 20), (b"tkhd", 24), (b"mdhd", 20)):
        at = -1
        while (at := data.find(box, at + 1)) >= 0:
            place = slice(at + offset, at + offset + 4)
            data[place] = round(share * int.from_bytes(data[place])).to_bytes(4)


def avi(data: bytearray, share: float) -> None:
    places, at = [data.index(b"avih") + 24], -1
    while (at := data.find(b"strh", at + 1)) >= 0:
        places.append(at + 40)
    for at in places:
        data[at : at + 4] = struct.pack("<I", round(share * struct.unpack("<I", data[at : at + 4])[0]))


def flv(data: bytearray, share: float) -> None:
    at = data.index(b"duration") + 9
    data[at : at + 8] = struct.pack(">d", share * struct.unpack(">d", data[at : at + 8])[0])


@pytest.mark.parametrize("share", [0.1, 12, 400])
@pytest.mark.parametrize(
    ("suffix", "untrue"), [(".mkv", matroska), (".webm", matroska), (".mp4", mp4), (".avi", avi), (".flv", flv)]
)
def test_an_untrue_duration_costs_nothing(tmp_path, suffix, untrue, share):
    """Recorders of a still screen, live streams and repairs write longer ones; recorders that crash, shorter ones."""
    path = write(tmp_path / f"a{suffix}")
    data = bytearray(path.read_bytes())
    untrue(data, share)
    path.write_bytes(data)
    assert numbers(path) == [0, 10, 20, 30, 40]
    assert abs(len(audio.waveform(str(path))) / 16000 - 5) < 0.2


# ---------------------------------------------------------------- files that were cut


CUT = [(".mkv", {}), (".webm", {}), (".avi", {}), (".flv", {}), (".wmv", {}),
       (".mp4", {"movflags": "faststart"}), (".mp4", {"movflags": "frag_keyframe+empty_moov"})]  # fmt: skip


@pytest.mark.parametrize("kept", [0.35, 0.6])
@pytest.mark.parametrize(("suffix", "options"), CUT)
def test_a_cut_file_is_told(tmp_path, suffix, options, kept):
    path = write(tmp_path / f"a{suffix}", 90, options=options)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(MediaError, match=rf"a{suffix}: cut short: it should last .* s, its data ends at .* s"):
        numbers(path)
    path.write_bytes(whole[: int(0.995 * len(whole))])  # a few frames, or an index, are no loss
    assert numbers(path)[:8] == list(range(0, 80, 10))


def test_a_cut_file_is_told_whose_header_is_too_short(tmp_path):
    path = write(tmp_path / "a.mkv", 90)
    data = bytearray(path.read_bytes())
    matroska(data, 0.1)
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(MediaError, match=r"cut short: it should last [89]\.\d s, its data ends at [34]\.\d s"):
        numbers(path)


@pytest.mark.parametrize("suffix", [".mkv", ".webm", ".flv"])
def test_reading_that_ends_within_the_file_is_told(tmp_path, suffix):
    path = write(tmp_path / f"a{suffix}", 60)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 3] + bytes(len(whole) - len(whole) // 3))
    with pytest.raises(MediaError, match=r"cut short: it should last 6\.0 s, its data ends at [12]\.\d s"):
        numbers(path)


def test_a_cut_flv_that_does_not_state_its_size(tmp_path):
    path = write(tmp_path / "a.flv", 90)
    whole = path.read_bytes().replace(b"filesize", b"nothing!")
    path.write_bytes(whole)
    assert len(numbers(path)) == 9
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MediaError, match="cut short: it should last 9"):
        numbers(path)


# ---------------------------------------------------------------- tracks that begin late


@pytest.fixture(scope="module")
def late(tmp_path_factory) -> dict[str, pathlib.Path]:
    """Ten seconds, of which sound or pictures come in the last three only, after more than FFmpeg looks through."""
    folder, settings = tmp_path_factory.mktemp("late"), {"fps": 10, "rate": 44100}
    settings |= {"codec_options": {"qscale": "2", "flags": "+qscale"}}
    media.write_media(folder / "sound.flv", noisy(100, 448), sound=media.tone(44100, 3), sound_begins=7, **settings)
    media.write_media(folder / "mute.flv", noisy(100, 448), **settings)
    sound = np.random.default_rng(0).uniform(-0.2, 0.2, 400 * 44100).astype(np.float32)
    media.write_media(
        folder / "picture.flv", noisy(30), 10, begins=397, sound=sound, rate=44100, sound_codec="adpcm_swf"
    )
    return {path.stem: path for path in folder.iterdir()}


def test_late_tracks_of_an_flv(late):
    assert all(path.stat().st_size > 6_000_000 for path in late.values())
    assert numbers(late["sound"]) == list(range(0, 100, 10))
    heard = np.abs(audio.waveform(str(late["sound"])))
    assert (
        abs(len(heard) / 16000 - 10) < 0.2 and heard[: int(6.9 * 16000)].max() == 0 and heard[8 * 16000 :].max() > 0.4
    )
    assert numbers(late["picture"]) == [0, 10, 20]
    assert samples.begin(str(late["picture"])) == pytest.approx(-397, abs=0.1)
    assert numbers(late["mute"]) == list(range(0, 100, 10)) and audio.waveform(str(late["mute"])) is None


def test_a_track_that_begins_too_late_is_told(late, monkeypatch):
    monkeypatch.setattr(opening, "_MOST", 2**22)
    with pytest.raises(
        MediaError, match=r"its audio begins after \d+ MB, further than is looked \(4 MB\); write it anew"
    ):
        audio.waveform(str(late["sound"]))
