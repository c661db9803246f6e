"""Which of several tracks counts, by one rule for pictures, sound and text; and what is said about it."""

import pathlib

import av
import numpy as np
import pytest
from av.stream import Disposition
from helpers import media
from helpers.media import Track

from data_prep.clip import prepare
from data_prep.corpora import Sample
from data_prep.media import audio, samples, video
from data_prep.media.decode import MediaError
from data_prep.speech import subtitles
from data_prep.teachers import sampling

DEFAULT = Disposition.default
FILM = [media.numbered(k) for k in range(40)]
COVER = [media.numbered(200)]


def numbers(path: str) -> tuple[list[int], list[str]]:
    told: list[str] = []
    pictures, _ = video.read_frames(path, media.SIDE, 12, raw=True, tell=told.append)
    shape = (media.SIDE, media.SIDE, 3)
    return [media.number_of(np.frombuffer(picture, np.uint8).reshape(shape)) for picture in pictures], told


def loudness(path: str) -> tuple[float | None, list[str]]:
    """Of a track of one loudness; None without sound."""
    told: list[str] = []
    parts = list(samples.pieces(path, 16000, told.append))
    return (round(float(np.concatenate(parts)[2000]), 2), told) if parts else (None, told)


def level(value: float) -> np.ndarray:
    return np.full(8000, value, np.float32)


# ---------------------------------------------------------------- pictures


@pytest.mark.parametrize(
    ("cover", "film"),
    [(Disposition(0), DEFAULT), (DEFAULT, DEFAULT), (Disposition(0), Disposition(0)), (DEFAULT, Disposition(0))],
)
def test_a_film_is_seen_and_no_cover_before_it(tmp_path, cover, film):
    path = media.write_tracks(tmp_path / "a.mkv", Track("mjpeg", COVER, cover), Track("libx264", FILM, film))
    assert numbers(path)[0] == [0, 10, 20, 30]
    seen = sampling.evenly_spaced(path, 2, media.number_of)
    assert seen == [0, 39]  # a teacher sees the same track


def test_a_film_of_single_images_is_a_film(tmp_path):
    path = media.write_tracks(tmp_path / "a.mkv", Track("mjpeg", FILM, DEFAULT), Track("libx264", FILM[::-1]))
    assert numbers(path) == ([0, 10, 20, 30], [])


def test_a_broken_film_gives_way_to_the_next(tmp_path):
    other = [media.numbered(100 + k) for k in range(40)]
    path = media.write_tracks(tmp_path / "a.mkv", Track("libx264", FILM, DEFAULT), Track("libx264", other))
    spoil(path, 0)
    got, told = numbers(path)
    assert got == [100, 110, 120, 130]
    assert len(told) == 1 and "track 1 (h264) is seen, passed over: track 0 (h264) (no frame can be decoded" in told[0]
    spoil(path, 1)
    with pytest.raises(MediaError, match=r"no frame can be decoded .*; nor can the other 1 be used"):
        numbers(path)


def spoil(path: str, track: int) -> None:
    """Overwrites all packets of a track."""
    with av.open(path) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(container.streams[track]) if packet.size]
    whole = bytearray(pathlib.Path(path).read_bytes())
    for at, size in places:  # a block of Matroska: a byte of its name, and its size, go before
        start = at + (8 if path.endswith(".mkv") else 0)
        whole[start : start + size - 8] = b"\xff" * (size - 8)
    pathlib.Path(path).write_bytes(whole)


# ---------------------------------------------------------------- sound


FLAGS = [
    ((Disposition(0), DEFAULT), 1, False),
    ((DEFAULT, Disposition(0)), 0, False),
    ((Disposition(0), Disposition(0)), 0, True),
    ((DEFAULT, DEFAULT), 0, True),
    ((DEFAULT | Disposition.comment, Disposition(0)), 1, True),
    ((DEFAULT | Disposition.visual_impaired, Disposition(0)), 1, True),
]


@pytest.mark.parametrize(("flags", "heard", "guessed"), FLAGS)
def test_sound_by_flags(tmp_path, flags, heard, guessed):
    tracks = [Track("pcm_s16le", level(0.25 + 0.5 * k), flag) for k, flag in enumerate(flags)]
    got, told = loudness(media.write_tracks(tmp_path / "a.mkv", *tracks))
    assert got == 0.25 + 0.5 * heard
    assert [f"track {heard} (pcm_s16le) is heard, passed over: track {1 - heard}" in line for line in told] == (
        [True] * guessed
    )


def test_sound_by_title_and_language(tmp_path):
    english = Track("pcm_s16le", level(0.5), language="eng")
    french = Track("pcm_s16le", level(0.25), language="fre")
    assert loudness(media.write_tracks(tmp_path / "a.mkv", french, english))[0] == 0.5
    french.flags = DEFAULT  # the file's own word counts more
    assert loudness(media.write_tracks(tmp_path / "b.mkv", french, english))[0] == 0.25
    english.title = "Commentary by the director"
    french.flags = Disposition(0)
    got, told = loudness(media.write_tracks(tmp_path / "c.mkv", english, french))
    assert got == 0.25 and "track 0 (pcm_s16le, eng) (commentary)" in told[0]


@pytest.mark.parametrize("lost", [0, 1])
def test_sound_that_nothing_can_decode_gives_way(tmp_path, lost):
    path = tmp_path / "a.mov"
    tracks = [Track("aac", media.tone(16000, 2), DEFAULT if k == 0 else Disposition(0)) for k in range(2)]
    media.write_tracks(path, Track("libx264", FILM[:20]), *tracks)
    unknown(path, [lost])
    told: list[str] = []
    total = sum(map(len, samples.pieces(str(path), 16000, told.append)))
    assert abs(total - 32000) < 3000
    assert len(told) == 1 - lost and all("passed over: track 1 (unknown codec) (no decoder)" in line for line in told)
    media.write_tracks(path, Track("libx264", FILM[:20]), *tracks)
    unknown(path, [0, 1])
    with pytest.raises(MediaError, match=r"a\.mov: no decoder for its sound track; nor can the other 1 be used"):
        audio.waveform(str(path))


def unknown(path: pathlib.Path, numbers: list[int]) -> None:
    """Makes sound tracks of a .mov of a kind that FFmpeg has no decoder for."""
    whole, at = bytearray(path.read_bytes()), -1
    places = []
    while (at := whole.find(b"esds", at + 1)) >= 0:
        places.append(at)
    for number in numbers:
        at = places[number]
        entry = whole.rfind(b"stsd", 0, at)
        whole[entry:at] = whole[entry:at].replace(b"mp4a", b"apac")
        whole[at : at + 4] = b"free"
    path.write_bytes(whole)


def test_an_empty_or_damaged_sound_track_gives_way(tmp_path):
    good, empty = Track("pcm_s16le", level(0.5)), Track("pcm_s16le", level(0.25)[:0], DEFAULT)
    got, told = loudness(media.write_tracks(tmp_path / "a.mkv", empty, good))
    assert got == 0.5 and "track 0 (pcm_s16le) (empty)" in told[0]
    path = media.write_tracks(tmp_path / "b.mkv", Track("aac", media.tone(16000, 2), DEFAULT), good)
    spoil(path, 0)
    got, told = loudness(path)
    assert got == 0.5 and "packets can be decoded" in told[0]


# ---------------------------------------------------------------- text


TEXTS = [
    ((("Full.", DEFAULT, ""), ("Part.", Disposition.forced, "")), "Full."),
    ((("Part.", DEFAULT | Disposition.forced, ""), ("Full.", Disposition(0), "")), "Full."),
    ((("Bonjour a tous.", Disposition(0), "fre"), ("Hello to all.", Disposition(0), "eng")), "Hello to all."),
    ((("Bonjour a tous.", DEFAULT, "fre"), ("Hello to all.", Disposition(0), "eng")), "Bonjour a tous."),
    ((("First.", Disposition(0), ""), ("Second.", Disposition(0), "")), "First."),
]


@pytest.mark.parametrize(("texts", "expected"), TEXTS)
def test_text(tmp_path, texts, expected):
    tracks = [Track("subrip", [text], flags, language) for text, flags, language in texts]
    path = media.write_tracks(tmp_path / "a.mkv", Track("libx264", FILM), *tracks)
    assert subtitles.read(path)[0] == expected


def test_an_empty_text_track_gives_way(tmp_path):
    tracks = [Track("subrip", [], DEFAULT), Track("subrip", ["Said."])]
    path = media.write_tracks(tmp_path / "a.mkv", Track("libx264", FILM), *tracks)
    told: list[str] = []
    assert subtitles.read(path, tell=told.append)[0] == "Said." and "track 1 (srt) (empty)" in told[0]


# ---------------------------------------------------------------- what a clip says of it


def test_a_clip_notes_what_was_passed_over(tmp_path):
    path = media.write_tracks(
        tmp_path / "a.mkv",
        Track("libx264", FILM, DEFAULT),
        *[Track("pcm_s16le", level(0.5), DEFAULT), Track("pcm_s16le", level(0.25), DEFAULT, "eng")],
        *[Track("subrip", ["Part."], DEFAULT | Disposition.forced), Track("subrip", ["Full."])],
    )
    sample = Sample("a", "test", path, ["a"], [""], "", [], None, None, None, subtitles=path)
    clip = prepare(sample, {"image_size": 32, "max_frames": 12, "frames": "jpeg", "spectrogram": True})
    assert clip.transcript == "Full." and clip.notes == [
        "subtitles: track 4 (srt) is read, passed over: track 3 (srt) (forced)",
        "sound: track 2 (pcm_s16le, eng) is heard, passed over: track 1 (pcm_s16le)",
    ]
