"""Files as they come: containers, odd sizes and clocks, tracks, folders, ten hours."""

import os
import pathlib
import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest
import simplejpeg
from helpers import media
from PIL import Image

from data_prep.media import audio, video
from data_prep.media.decode import MediaError


def numbers(path: str, max_frames: int = 12) -> list[int]:
    pictures, _ = video.read_frames(path, media.SIDE, max_frames)
    return [media.number_of(simplejpeg.decode_jpeg(picture)) for picture in pictures]


CONTAINERS = [(".mp4", None), (".mkv", None), (".mkv", "libsvtav1"), (".webm", None), (".mov", None), (".ts", None),
              (".ts", "libx264"), (".avi", None), (".avi", "libx264")]  # fmt: skip


@pytest.mark.parametrize(("suffix", "codec"), CONTAINERS)
def test_containers(tmp_path, suffix, codec):
    path = media.write_media(
        tmp_path / f"a{suffix}",
        [media.numbered(k) for k in range(60)],
        fps=24,
        sound=media.tone(48000, 2.5),
        rate=48000,
        codec=codec,
        pix_fmt="yuv422p10le" if suffix == ".mov" else "yuv420p",
    )
    assert numbers(path) == [0, 24, 48]
    samples = audio.waveform(path)
    assert abs(len(samples) - 40000) < 2000 and abs(samples[8000:32000].std() - 0.5 * 0.5**0.5) < 0.02
    assert audio.read_fbank(path).shape == (1024, 128)


@pytest.mark.parametrize(("fps", "count", "expected"), [(1, 3, [0, 1, 2]), (24, 2, [0])])
def test_a_video_that_ends_before_its_decoder_gives_a_frame(tmp_path, fps, count, expected):
    frames = [media.numbered(k) for k in range(count)]
    assert numbers(media.write_media(tmp_path / "a.avi", frames, fps, codec="libx264")) == expected


@pytest.mark.parametrize(("width", "height"), [(65, 49), (1, 1), (2, 2), (3, 40), (40, 3)])
def test_odd_sizes(tmp_path, width, height):
    frames = [np.full((height, width, 3), (200, 30, 90), np.uint8)] * 5
    path = media.write_media(tmp_path / "a.webm", frames, fps=5, pix_fmt="yuv444p", codec_options={"cpu-used": "8"})
    pictures, _ = video.read_frames(path, 32, 12, raw=True)
    assert len(pictures) == 1
    assert np.abs(np.frombuffer(pictures[0], np.uint8).reshape(32, 32, 3).astype(int) - (200, 30, 90)).max() < 6


PEAK = """
import sys
from data_prep.media import video
peak = lambda: int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])  # not rusage: it counts the parent
video.read_frames(sys.argv[1], 224, 12)
before = peak()
frames, _ = video.read_frames(sys.argv[2], 224, 12)
print(len(frames), peak() - before)
"""


def test_a_line_fits_in_memory(tmp_path):
    """Resized before it is cropped, 4000 × 2 is a picture of 300 MB."""
    usual = media.write_media(tmp_path / "usual.webm", [media.numbered(1)])
    line = np.random.default_rng(0).integers(0, 256, (2, 4000, 3), np.uint8)
    path = media.write_media(tmp_path / "line.webm", [line], pix_fmt="yuv444p", codec_options={"cpu-used": "8"})
    done = subprocess.run([sys.executable, "-c", PEAK, usual, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    count, kilobytes = map(int, done.stdout.split())
    assert count == 1 and kilobytes < 50_000


def test_4k(tmp_path):
    frames = [np.pad(media.numbered(k, 2160), ((0, 0), (840, 840), (0, 0))) for k in (5, 6)]
    path = media.write_media(tmp_path / "a.mp4", frames, fps=1, codec_options={"preset": "ultrafast"})
    assert numbers(path) == [5, 6]


def test_rotations(tmp_path):
    upright = np.zeros((64, 96, 3), np.uint8)
    upright[:32, :48] = 255  # white top left
    for angle in (90, 180, 270):
        stored = np.ascontiguousarray(np.rot90(upright, k=-angle // 90))
        path = media.write_media(tmp_path / f"{angle}.mp4", [stored] * 3, rotation=angle)
        pictures, _ = video.read_frames(path, 32, 12, raw=True)
        image = np.frombuffer(pictures[0], np.uint8).reshape(32, 32, 3)
        assert np.abs(image.astype(int) - video.crop_square(upright, 32)).mean() < 12, angle


# ---------------------------------------------------------------- clocks


def restamped(source: str, target: pathlib.Path, shift: float, **options: str) -> str:
    """The same packets, `shift` seconds later or earlier, in another file."""
    with av.open(source) as old, av.open(str(target), "w", container_options=options) as new:
        streams = {stream.index: new.add_stream_from_template(stream) for stream in old.streams}
        for packet in old.demux():
            if packet.dts is None:
                continue
            offset = round(shift / packet.time_base)
            packet.pts, packet.dts = packet.pts + offset, packet.dts + offset
            packet.stream = streams[packet.stream.index]
            new.mux(packet)
    return str(target)


def first_and_last_stamp(path: str) -> tuple[float, float]:
    with av.open(path) as container:
        stamps = [float(p.pts * p.time_base) for p in container.demux(video=0) if p.pts is not None]
    return min(stamps), max(stamps)


def test_clocks_that_do_not_begin_at_zero(tmp_path):
    frames = [media.numbered(k) for k in range(95)]
    settings = {"x264-params": "keyint=20:bframes=3"}
    path = media.write_media(tmp_path / "a.mp4", frames, 25, sound=media.tone(16000, 3.8), codec_options=settings)
    expected, times = video.read_frames(path, 64, 12)
    assert numbers(path) == [0, 25, 50, 75] and times.tolist() == [0, 1, 2, 3]

    for name, shift, options in (
        ("late.ts", 50000, {}),
        ("wraps.ts", 2**33 / 90000 - 2, {}),  # the clock of MPEG-TS has 33 bits
        ("late.mkv", 3600, {}),
        ("late.mp4", 3600, {"use_editlist": "0"}),
    ):
        options = {"avoid_negative_ts": "disabled", "muxdelay": "0", **options} if name != "late.mkv" else options
        moved = restamped(path, tmp_path / name, shift, **options)
        begins, _ = first_and_last_stamp(moved)
        assert (begins < 1) if name == "wraps.ts" else (begins > 3000 or name == "late.mp4"), begins
        got, times = video.read_frames(moved, 64, 12)
        assert got == expected and times.tolist() == [0, 1, 2, 3], name
        assert audio.read_fbank(moved) is not None

    # What may be missing is a share of the film, not of a clock that begins at 14 h.
    whole = pathlib.Path(restamped(path, tmp_path / "cut.mkv", 50000)).read_bytes()
    assert numbers(str(tmp_path / "cut.mkv")) == [0, 25, 50, 75]
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MediaError, match=r"cut short: it should last 5000\d\.\d s, its data ends at 5000\d\.\d s"):
        numbers(str(tmp_path / "cut.mkv"))

    # An edit list that begins within the film: what lies before is not shown, as in any player.
    cut = restamped(path, tmp_path / "cut.mp4", -1.2, avoid_negative_ts="disabled", use_editlist="1")
    assert first_and_last_stamp(cut)[0] < 0
    assert numbers(cut) == [30, 55, 80]


# ---------------------------------------------------------------- tracks


def test_the_default_sound_track_is_heard(tmp_path):
    for chosen in (None, 0, 1):
        path = str(tmp_path / f"{chosen}.mkv")
        with av.open(path, "w") as container:
            tracks = [container.add_stream("pcm_s16le", rate=16000, layout="mono") for _ in range(2)]
            for number, track in enumerate(tracks):
                track.disposition = av.stream.Disposition.default if number == chosen else av.stream.Disposition(0)
            for track, loudness in zip(tracks, (0.25, 0.75), strict=True):
                frame = av.AudioFrame.from_ndarray(np.full((1, 4000), loudness * 32768, np.int16), "s16", "mono")
                frame.sample_rate, frame.pts = 16000, 0
                container.mux(track.encode(frame))
                container.mux(track.encode(None))
        assert audio.waveform(path)[2000] == (0.75 if chosen == 1 else 0.25)


def test_sound_longer_than_the_picture_counts_whole(tmp_path):
    frames = [media.numbered(k) for k in range(50)]
    path = media.write_media(tmp_path / "a.mp4", frames, sound=media.tone(16000, 6))
    assert numbers(path) == [0, 25]
    assert abs(len(audio.waveform(path)) - 96000) < 3000
    loud = audio.read_fbank(path).astype(np.float32).max(axis=1) > 0.3
    assert loud[20:1000].all()


def test_video_stream_without_frames(tmp_path):
    path = str(tmp_path / "a.mov")
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        sound = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.int16), "s16", "mono")
        frame.sample_rate, frame.pts = 16000, 0
        container.mux([*sound.encode(frame), *sound.encode(None)])
    with pytest.raises(MediaError, match=r"no video stream|no frame can be decoded"):
        video.read_frames(path, 32, 12)
    assert audio.read_fbank(path) is not None


def test_a_header_of_the_decoder_that_is_too_short(tmp_path):
    frames = [media.numbered(k) for k in range(10)]
    path = pathlib.Path(media.write_media(tmp_path / "a.mkv", frames, codec="mpeg4"))
    whole = path.read_bytes()
    at = whole.index(b"\x63\xa2") + 2  # CodecPrivate; then its size, below 127
    size = whole[at] - 128
    void = bytes([0xEC, 128 + size - 3, *bytes(size - 3)])
    path.write_bytes(whole[:at] + b"\x81\x01" + void + whole[at + 1 + size :])
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.extradata == b"\x01"
    assert numbers(str(path)) == [0]  # key frames repeat it


def test_cover_art_is_no_video(tmp_path):
    path = str(tmp_path / "a.mp4")
    with av.open(path, "w") as container:
        sound = container.add_stream("aac", rate=16000, layout="mono")
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        frame = av.AudioFrame.from_ndarray(media.tone(16000, 1)[None], "fltp", "mono")
        frame.sample_rate, frame.pts = 16000, 0
        picture = av.VideoFrame.from_ndarray(media.numbered(7), "rgb24")
        picture.pts = 0
        container.mux([*sound.encode(frame), *sound.encode(None), *cover.encode(picture), *cover.encode(None)])
    with av.open(path) as container:
        assert len(container.streams.video) == 1
    with pytest.raises(MediaError, match="no video stream"):
        video.read_frames(path, 32, 12)
    assert audio.read_fbank(path) is not None


def test_names_that_are_not_utf8(tmp_path):
    path = os.path.join(str(tmp_path), os.fsdecode(b"\xff \xe9t\xe9.mp4"))
    os.rename(media.write_media(tmp_path / "a.mp4", [media.numbered(3)], sound=media.tone(16000, 0.5)), path)
    assert numbers(path) == [3]
    assert audio.read_fbank(path) is not None


# ---------------------------------------------------------------- folders


def test_folder_of_pictures(tmp_path):
    for number, name in enumerate(["frame1.jpg", "frame2.PNG", "frame9.webp", "frame10.jpeg", "frame100.jpg"]):
        Image.fromarray(media.numbered(number)).save(tmp_path / name, quality=95)
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden.jpg").write_text("no picture either")
    assert numbers(str(tmp_path)) == [0, 1, 2, 3, 4]
    _, times = video.read_frames(str(tmp_path), 32, 12)
    assert times.dtype == np.float32 and times.tolist() == [0, 1, 2, 3, 4]
    pictures, times = video.read_frames(str(tmp_path), 32, 2)
    assert len(pictures) == 2 and times.tolist() == [0, 4]
    Image.fromarray(media.numbered(7)).save(tmp_path / "²1.jpg")  # a digit to Unicode, no number to int()
    assert numbers(str(tmp_path)) == [0, 1, 2, 3, 4, 7]
    (tmp_path / "frame3.jpg").write_bytes(b"\xff\xd8 no more")
    with pytest.raises(MediaError, match=r"frame3\.jpg: not a readable picture"):
        numbers(str(tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(MediaError, match="empty: no picture in this folder"):
        numbers(str(tmp_path / "empty"))


# ---------------------------------------------------------------- length

HOURS = 10
MEASURE = """
import sys
from data_prep.media import audio, video
frames, times = video.read_frames(sys.argv[1], 224, 12)
fbank = audio.read_fbank(sys.argv[1])
peak = open("/proc/self/status").read().split("VmHWM:")[1].split()[0]  # not rusage: it counts the parent
print(len(frames), times[-1], fbank.shape, float(fbank[0].max()), peak)
"""


def long_file(target: pathlib.Path, folder: pathlib.Path, hours: float) -> str:
    """A short film's packets again and again: 10 frames a second, sound at 4 kHz."""
    short = media.write_media(
        folder / "short.mkv",
        [media.numbered(k % 256) for k in range(600)],
        fps=10,
        codec="libx264",
        codec_options={"x264-params": "keyint=100:bframes=2"},
    )
    with av.open(short) as old, av.open(str(target), "w") as new:
        picture = new.add_stream_from_template(old.streams.video[0])
        sound = new.add_stream("pcm_u8", rate=4000, layout="mono")
        frame = av.AudioFrame.from_ndarray((128 + 127 * media.tone(4000, 1, 500)).astype(np.uint8)[None], "u8", "mono")
        frame.sample_rate, frame.pts = 4000, 0
        (second,) = [bytes(packet) for packet in sound.encode(frame)]
        seen = [(p.pts, p.dts, bytes(p), p.duration, p.is_keyframe) for p in old.demux(video=0) if p.dts is not None]
        base = old.streams.video[0].time_base
        for minute in range(round(60 * hours)):
            for pts, dts, data, duration, key in seen:
                packet = av.Packet(data)
                shift = round(60 / base) * minute
                packet.pts, packet.dts, packet.duration = pts + shift, dts + shift, duration
                packet.time_base, packet.stream, packet.is_keyframe = base, picture, key
                new.mux(packet)
            for at in range(60 * minute, 60 * minute + 60):
                packet = av.Packet(second)
                packet.pts = packet.dts = 4000 * at
                packet.time_base, packet.stream, packet.duration = Fraction(1, 4000), sound, 4000
                new.mux(packet)
    return str(target)


def test_ten_hours_fit_in_memory(tmp_path):
    path = long_file(tmp_path / "long.mkv", tmp_path, HOURS)
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", MEASURE, path], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    count, last, *shape, loudest, peak = done.stdout.split()
    assert int(count) == 12 and float(last) == 3600 * HOURS - 1 and shape == ["(1024,", "128)"]
    assert float(loudest) > 0.3
    assert int(peak) < 1_000_000, "kilobytes; ten hours of float32 samples alone are 2,300,000"
    assert not [name for name in os.listdir(tmp_path) if name not in ("long.mkv", "short.mkv")]
