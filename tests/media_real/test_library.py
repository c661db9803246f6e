"""A folder as people have it, of real films, footage, speech and a meeting in several containers: the commands in turn.

Needs the registries of pip and Debian; see tests/helpers/real_media.py. What FFmpeg's own program shows of each video,
turned and with square pixels, is held against what is in the shards.
"""

import dataclasses
import json
import shutil
import subprocess
from pathlib import Path

import av
import numpy as np
import pytest
from helpers import media
from helpers import real_media as packages
from helpers.words import edit_distance, spoken_words
from PIL import Image

from data_prep.commands import build, inspect, transcribe, verify
from save_jax.data import records

SIDE, FPS = 96, 25
TALKS = {  # file → codecs of picture and sound, and counter-clockwise degrees of the display
    "talks/new.mp4": ("libx264", "aac", 0),
    "talks/old.avi": ("mpeg4", "libmp3lame", 0),
    "talks/disc.mpg": ("mpeg2video", "mp2", 0),
    "talks/broadcast.ts": ("mpeg2video", "mp2", 0),
    "phone/left.mp4": ("libx264", "aac", 90),
    "phone/down.mov": ("libx264", "pcm_s16le", 180),
    "phone/right.mp4": ("libx264", "aac", -90),
}
OPEN, BROKEN = "talks/open.webm", "broken.mp4"


@dataclasses.dataclass(frozen=True)
class Library:
    root: Path
    said: dict[str, str]  # file → the sentence in it
    rows: dict[str, dict]  # file → its transcript
    clips: dict[str, records.Clip]
    printed: dict[str, str]  # command → what it said


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Library:
    folder = tmp_path_factory.mktemp("library")
    root = folder / "videos"
    for name in ("films", "talks", "phone"):
        (root / name).mkdir(parents=True)
    films = packages.films()
    for path in films.values():
        shutil.copy(path, root / "films")
    footage, said = pictures(films["city"], 320), {}
    sentences = [*packages.read_sentences().items()]
    for number, (name, (codec, sound_codec, rotation)) in enumerate(TALKS.items()):
        path, said[name] = sentences[number % len(sentences)]
        sound = packages.heard(path)
        frames = [footage[k % len(footage)] for k in range(int(FPS * len(sound) / 16_000))]
        how = {"codec": codec, "sound_codec": sound_codec, "rotation": rotation}
        media.write_media(root / name, frames, FPS, sound=sound, **how)
    said[OPEN] = said["talks/new.mp4"]
    vorbis = ["-c:v", "libvpx", "-c:a", "libvorbis", "-v", "error", root / OPEN]  # PyAV has no encoder of it
    subprocess.run([packages.ffmpeg(), "-i", root / "talks/new.mp4", *vorbis], check=True)
    meeting = packages.heard(next(iter(packages.meetings())))
    media.write_media(root / "meeting.mkv", footage[::FPS] * 4, 1, sound=meeting, codec="libx264")
    whole = films["bikes"].read_bytes()
    (root / BROKEN).write_bytes(whole[: len(whole) // 2])

    corpus, printed = ["--corpus", "folder", "--root", str(root)], {}
    model = ["--engine", "faster-whisper", "--model", str(packages.whisper_tiny_en())]
    settings = ["--frames", "raw", "--image-size", str(SIDE), "--max-frames", "40"]
    with pytest.MonkeyPatch.context() as patch:
        lines: list[str] = []
        patch.setattr("builtins.print", lambda *texts, **_: lines.append(" ".join(map(str, texts))))
        for name, command in {
            "verify": lambda: verify.main(corpus),
            "transcribe": lambda: transcribe.main([*corpus, *model]),
            "build": lambda: build.main([*corpus, *settings, "--out", str(folder / "shards")]),
            "inspect": lambda: inspect.main([str(folder / "shards")]),
        }.items():
            lines.clear()
            assert command() == 0, (name, lines)
            printed[name] = "\n".join(lines)
    rows = {row["key"]: row for row in json.loads((root / "transcripts.json").read_text())}
    shards = records.ShardSource(inspect.find_shards(str(folder / "shards")))
    return Library(root, said, rows, {clip.id: clip for clip in map(shards.__getitem__, range(len(shards)))}, printed)


def pictures(path: Path, width: int) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        frames = container.decode(video=0)
        return [f.reformat(width, f.height * width // f.width // 2 * 2, "rgb24").to_ndarray() for f in frames]


def shown(path: Path, step: int) -> list[np.ndarray]:
    """uint8 [SIDE, SIDE, 3] each: what FFmpeg's program shows of every `step`-th picture, its middle square."""
    square = f"scale='max(iw,iw*sar)':'max(ih,ih/sar)':flags=bicubic,setsar=1,select='not(mod(n,{step}))'"
    how = ["-vf", square, "-fps_mode", "passthrough", "-f", "image2pipe", "-c:v", "ppm", "-"]
    data = subprocess.run(
        [packages.ffmpeg(), "-v", "error", "-i", path, "-an", *how], check=True, capture_output=True
    ).stdout
    squares = []
    while data:
        _, size, _, rest = data.split(b"\n", 3)
        width, height = map(int, size.split())
        image = Image.frombytes("RGB", (width, height), rest[: 3 * width * height])
        data, short = rest[3 * width * height :], min(width, height)
        across, down = SIDE * width // short, SIDE * height // short
        left, top = round((across - SIDE) / 2), round((down - SIDE) / 2)  # as torchvision crops
        image = image.resize((across, down), Image.Resampling.BICUBIC)
        squares.append(np.asarray(image.crop((left, top, left + SIDE, top + SIDE))))
    return squares


def test_all_that_can_be_read_is_in_the_shards(library):
    names = {str(path.relative_to(library.root)) for path in library.root.rglob("*.m*")} | {OPEN, *TALKS}
    assert len(names) == len(TALKS) + 1 + 5 + 2, names
    read = {name for name, clip in library.clips.items() if not clip.failed}
    assert read == names - {BROKEN}
    assert BROKEN in library.printed["verify"] and BROKEN in library.printed["build"]
    assert "problem" in library.rows[BROKEN] or not library.rows[BROKEN]["text"]
    assert all(name in library.printed["inspect"] for name in read)


def in_matroska(path: Path, folder: Path) -> Path:
    """The same pictures, coded as they are: this build of FFmpeg's program dies of every transport stream."""
    with av.open(str(path)) as source, av.open(str(folder / "same.mkv"), "w") as target:
        track = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = track
                target.mux(packet)
    return folder / "same.mkv"


def test_pictures_are_those_that_ffmpeg_shows(library, tmp_path):
    worst = {}
    for name, clip in library.clips.items():
        if clip.failed:
            continue
        rate = {"meeting.mkv": 1, "films/carphone_pristine.mp4": 29, "films/carphone_distorted.mp4": 29}.get(name, FPS)
        path = library.root / name
        expected = shown(in_matroska(path, tmp_path) if path.suffix == ".ts" else path, rate)
        frames = [np.frombuffer(frame, np.uint8).reshape(SIDE, SIDE, 3) for frame in clip.frames]
        assert len(frames) == len(expected), name
        assert np.allclose(clip.frame_times, np.arange(len(frames)), atol=0.15), name  # 29 of 29.97 a second
        worst[name] = max(
            float(np.abs(ours.astype(int) - theirs).mean()) for ours, theirs in zip(frames, expected, strict=True)
        )
    assert max(worst.values()) < 2, worst  # of 255; 0 but where pixels are no squares, and in MPEG-2 with B-frames


def test_sentences_are_heard_in_every_container(library):
    wrong, total = 0, 0
    for name, text in library.said.items():
        row, clip = library.rows[name], library.clips[name]
        assert clip.transcript == row["text"] and clip.speech["segments"] == row["segments"]
        wrong += edit_distance(spoken_words(text), spoken_words(row["text"]))
        total += len(spoken_words(text))
    assert wrong <= 0.08 * total, (wrong, total)


def test_films_without_speech_say_nothing(library):
    said = {name: row["text"] for name, row in library.rows.items() if name.startswith("films/")}
    assert spoken_words(said.pop("films/bigbuckbunny.mp4")) in ([], ["hmm"]), library.rows  # the rabbit may hum
    assert len(said) == 4 and not any(said.values()), said
    sounding = {name for name, clip in library.clips.items() if clip.fbank is not None}
    assert sounding == {*TALKS, OPEN, "meeting.mkv", "films/bigbuckbunny.mp4"}


def test_a_meeting_is_heard_where_people_speak(library):
    """Of 30 seconds in which several speak at once."""
    [turns] = [turns for path, turns in packages.meetings().items() if path.stem == "dev00"]
    segments = library.rows["meeting.mkv"]["segments"]
    grid = np.arange(0, 30, 0.1)
    spoken = np.any([(turn.start <= grid) & (grid < turn.end) for turn in turns], axis=0)
    heard = np.any([(part["start"] <= grid) & (grid < part["end"]) for part in segments], axis=0)
    assert (heard & spoken).sum() >= 0.8 * spoken.sum()
