"""Decoding less changes nothing: chosen frames against a full decode, for every codec, and for damaged files."""

import contextlib

import av
import numpy as np
import pytest
import simplejpeg
from helpers import media

from data_prep.media import decode, video
from data_prep.media.decode import MediaError

OPEN_GOP = {"x264-params": "keyint=24:min-keyint=24:scenecut=0:open-gop=1:bframes=3:b-pyramid=normal"}
INTERLACED = {"flags": "+ildct+ilme"}
X265 = "keyint=24:min-keyint=24:bframes=4:log-level=none:pools=1"
# Name, suffix, encoder, its settings, pixel format, at how many frames decoding may begin (0: not the same everywhere).
ENCODES = [
    ("h264", ".mp4", None, {"x264-params": "keyint=24:bframes=4:b-adapt=0:b-pyramid=normal:ref=4"}, "yuv420p", 5),
    ("h264-temporal-direct", ".mp4", None, {"x264-params": "keyint=24:bframes=5:direct=temporal"}, "yuv420p", 5),
    ("h264-open-gop", ".mp4", None, OPEN_GOP, "yuv420p", 1),
    ("h264-intra-refresh", ".mp4", None, {"x264-params": "keyint=24:intra-refresh=1"}, "yuv420p", 1),
    ("h264-interlaced", ".ts", "libx264", {"x264-params": "keyint=24:tff=1", **INTERLACED}, "yuv420p", 5),
    ("hevc-open-gop", ".mkv", None, {"x265-params": f"{X265}:open-gop=1"}, "yuv420p", 5),
    ("hevc-temporal-layers", ".mkv", None, {"x265-params": f"{X265}:open-gop=0:temporal-layers=2"}, "yuv420p", 5),
    ("vp9", ".webm", None, {"g": "24", "lag-in-frames": "16", "auto-alt-ref": "1", "cpu-used": "5"}, "yuv420p", 5),
    (
        "vp8",
        ".webm",
        "libvpx",
        {"g": "24", "lag-in-frames": "16", "auto-alt-ref": "1", "deadline": "good", "cpu-used": "5"},
        "yuv420p",
        5,
    ),
    ("av1", ".mkv", "libsvtav1", {"g": "24", "preset": "12"}, "yuv420p", 5),
    ("mpeg4", ".mp4", "mpeg4", {"g": "24", "bf": "2", "flags": "+qpel+mv4"}, "yuv420p", 0),
    ("mpeg2-interlaced", ".ts", None, {"g": "24", "bf": "2", **INTERLACED}, "yuv420p", 0),
    ("prores", ".mov", None, {}, "yuv422p10le", 120),
]


def numbers(path: str, max_frames: int = 12) -> list[int]:
    pictures, _ = video.read_frames(path, media.SIDE, max_frames)
    return [media.number_of(simplejpeg.decode_jpeg(picture)) for picture in pictures]


@pytest.mark.parametrize(("suffix", "codec", "settings", "pix_fmt", "beginnings"), [e[1:] for e in ENCODES],
                         ids=[e[0] for e in ENCODES])  # fmt: skip
def test_chosen_frames_are_those_of_a_full_decode(tmp_path, suffix, codec, settings, pix_fmt, beginnings):
    path = media.write_media(
        tmp_path / f"a{suffix}", media.moving(120, 96, 80), 24, codec=codec, codec_options=settings, pix_fmt=pix_fmt
    )
    with av.open(path) as container:
        container.streams.video[0].codec_context.thread_count = 1
        full = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(full) == 120
    with decode.open_video(path) as file:
        assert len(file.times) == 120
        assert len(file._keys) == beginnings or (beginnings == 0 and len(file._keys) > 3)
        for ranks in ([0, 24, 48, 72, 96], [0, 30, 119], [50], [7, 8, 9, 63, 64, 65], [22, 23, 47, 71, 95, 118]):
            got = list(file._hurried(ranks))  # not `frames`: it would decode everything where this one stumbles
            assert [rank for rank, _ in got] == ranks
            for rank, frame in got:
                np.testing.assert_array_equal(frame.to_ndarray(format="rgb24"), full[rank])
    held = decode._HELD
    try:
        decode._HELD = 0  # as for a large file, which is read a second time
        with decode.open_video(path) as file:
            assert file._held is None
            (first, last) = [frame.to_ndarray(format="rgb24") for _, frame in file.frames([0, 96])]
    finally:
        decode._HELD = held
    np.testing.assert_array_equal(first, full[0])
    np.testing.assert_array_equal(last, full[96])


def test_little_else_is_decoded(tmp_path, monkeypatch):
    settings = {"x264-params": "keyint=24:min-keyint=24:scenecut=0:bframes=3:b-adapt=0"}
    path = media.write_media(tmp_path / "a.mp4", media.moving(240, 96, 80), 24, codec_options=settings)
    decoded = 0
    with decode.open_video(path) as file:
        real = file.codec

        class Counting:
            def __getattr__(self, name):
                return getattr(real, name)

            def __setattr__(self, name, value):
                setattr(real, name, value)

            def decode(self, packet):
                nonlocal decoded
                frames = real.decode(packet)
                decoded += len(frames)
                return frames

        file.codec = Counting()
        assert [rank for rank, _ in file.frames([0, 120, 239])] == [0, 120, 239]
    assert decoded < 30  # of 240: the last group without the frames that nothing refers to, and a few for the others


def spoil(path: str, packet_numbers: list[int]) -> None:
    """Overwrites packets of the first stream."""
    with av.open(path) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        places = [(packets[k].pos, packets[k].size) for k in packet_numbers]
    with open(path, "r+b") as file:
        for at, size in places:
            file.seek(at)
            file.write(b"\xa5" * size)


def test_a_lost_frame_gives_way_to_the_next_one(tmp_path):
    frames = [media.numbered(k) for k in range(33)]
    path = media.write_media(tmp_path / "a.mov", frames, 8, pix_fmt="yuv422p10le")
    assert numbers(path) == [0, 8, 16, 24, 32]
    spoil(path, [16])
    assert numbers(path) == [0, 8, 17, 24, 32]
    spoil(path, [32])
    assert numbers(path) == [0, 8, 17, 24, 31]  # nothing follows: the last one stands for it
    with decode.open_video(path) as file:
        assert [rank for rank, _ in file.frames([0, 31, 32])] == [0, 31]  # which it does not where it was asked for
    _, times = video.read_frames(path, 32, 12)
    np.testing.assert_allclose(times, [0, 1, 17 / 8, 3, 31 / 8])
    spoil(path, [3, 4, 5])
    with pytest.raises(MediaError, match=r"damaged: 5 of 34 packets fail to decode"):
        numbers(path)


def test_losses_between_frames_that_refer_to_each_other(tmp_path):
    """A damaged H.264 file gives what decoding it in order gives, at the times asked for."""
    settings = {"x264-params": "keyint=24:bframes=3:b-adapt=0"}
    path = media.write_media(tmp_path / "a.mp4", media.moving(120, 96, 80), 24, codec_options=settings)
    wanted = [0, 30, 60, 61, 62, 63, 90]
    with decode.open_video(path) as file:
        spoil(path, [49, int(file._packets[90])])  # one that others refer to, and a wanted one
    full = {}
    with av.open(path) as container:
        container.streams.video[0].codec_context.thread_count = 1
        for packet in container.demux(video=0):
            with contextlib.suppress(av.error.FFmpegError):
                full |= {round(24 * frame.time): frame.to_ndarray(format="rgb24") for frame in packet.decode()}
    assert 110 < len(full) < 120
    with decode.open_video(path) as file:
        got = {rank: frame.to_ndarray(format="rgb24") for rank, frame in file.frames(wanted)}
    assert list(got) == [min(rank for rank in full if rank >= number) for number in wanted] != wanted
    for rank, image in got.items():
        np.testing.assert_array_equal(image, full[rank])


def flip_bits(whole: bytes, places: list[tuple[int, int]], rng: np.random.Generator) -> bytes:
    """One to three bits in each of one to six packets."""
    data = bytearray(whole)
    for k in rng.choice(len(places), rng.integers(1, 7), replace=False):
        at, size = places[k]
        for _ in range(rng.integers(1, 4)):
            data[at + rng.integers(size)] ^= 1 << int(rng.integers(8))
    return bytes(data)


FLIPPED = ["h264", "h264-temporal-direct", "h264-open-gop", "h264-interlaced", "hevc-open-gop", "vp9", "av1", "mpeg4",
           "mpeg2-interlaced", "prores"]  # fmt: skip


@pytest.mark.parametrize("name", FLIPPED)
def test_flipped_bits_give_what_decoding_in_order_gives(tmp_path, name):
    """Decoders fill in damaged parts from what they saw before, so that frames must not come from a shortened decode.

    A frame may be nearer to the undamaged one: damage in what is left out does no harm.
    """
    suffix, codec, settings, pix_fmt, _ = next(encode[1:] for encode in ENCODES if encode[0] == name)
    if suffix == ".ts":  # there, packets lie in pieces
        suffix, codec = ".mkv", codec or "mpeg2video"
    path = tmp_path / f"a{suffix}"
    media.write_media(path, media.moving(120, 96, 80), 24, codec=codec, codec_options=settings, pix_fmt=pix_fmt)
    whole, at, places = path.read_bytes(), 0, []
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            if packet.size:
                at = whole.index(bytes(packet), at if suffix == ".mkv" else 0)
                places.append((at, packet.size))

    def images(found):
        kept = {}
        with contextlib.suppress(MediaError):  # judged at the end, of the whole file
            for rank, frame in found:
                kept[rank] = frame.to_ndarray(format="rgb24").astype(int)
        return kept

    with decode.open_video(str(path)) as file:
        truth = images(file._in_order(range(120)))
    for seed in range(12):
        rng = np.random.default_rng([seed, 7])
        path.write_bytes(flip_bits(whole, places, rng))
        ranks = sorted(rng.choice(120, 8, replace=False).tolist()) if seed % 2 else [0, 24, 48, 72, 96, 119]
        with decode.open_video(str(path)) as file:
            got = images(file.frames(ranks))
            expected = images(file._in_order(ranks))
        assert list(got) == list(expected) and got, seed
        for rank, image in got.items():
            same = np.array_equal(image, expected[rank])
            far, farther = (np.abs(picture - truth[rank]).mean() for picture in (image, expected[rank]))
            assert same or far < farther, (seed, rank, far, farther)
