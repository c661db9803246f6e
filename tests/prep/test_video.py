"""Frame choice and geometry against the authors' numbers, and every kind of bad file."""

import pathlib
from fractions import Fraction

import numpy as np
import pytest
import simplejpeg
from helpers import media, places
from PIL import Image

from data_prep.media import video
from data_prep.media.decode import MediaError

GOLDEN = places.GOLDEN / "frames.npz"


def numbers(path: str, max_frames: int = 12) -> list[int]:
    jpegs, _ = video.read_frames(path, media.SIDE, max_frames)
    return [media.number_of(simplejpeg.decode_jpeg(jpeg)) for jpeg in jpegs]


def test_indices_and_choice_match_reference():
    golden = np.load(GOLDEN)
    for row, (fps, count) in enumerate(golden["pairs"]):
        indices = video.frame_indices(fps, int(count))
        expected = golden["raw_index"][row, : golden["raw_count"][row]]
        np.testing.assert_array_equal(indices, expected)
        for limit in (8, 12):
            chosen = golden[f"max{limit}/slice2"][row]
            kept = [indices[position] for position in video.choose(len(indices), limit)]
            np.testing.assert_array_equal(kept, chosen[chosen >= 0])


def test_crop_matches_reference_exactly():
    golden = np.load(GOLDEN)
    names = [name for name in golden.files if name.endswith("input_uint8_hwc")]
    assert len(names) == 6
    for name in names:
        expected = golden[name.replace("input", "cropped")]
        np.testing.assert_array_equal(video.crop_square(golden[name], 32), expected)


def test_crop_of_very_long_pictures():
    rows, columns = np.mgrid[0:10, 0:900]
    wave = (100 + 60 * np.sin(columns / 7) + 5 * rows).astype(np.uint8)
    for image in (wave, wave.T):
        image = np.stack([image, image // 2, 255 - image], axis=-1)
        scaled, (left, top) = video.geometry(image.shape[1], image.shape[0], 32)
        whole = Image.fromarray(image).resize(scaled, Image.Resampling.BICUBIC)
        expected = np.asarray(whole.crop((left, top, left + 32, top + 32))).astype(int)
        assert np.abs(video.crop_square(image, 32) - expected).max() <= 2 < np.ptp(expected)


def test_constant_rate_goes_by_index(tmp_path):
    frames = [media.numbered(k) for k in range(95)]
    assert numbers(media.write_media(tmp_path / "a.mp4", frames[:75], fps=25)) == [0, 25, 50]
    ntsc = media.write_media(tmp_path / "b.mp4", frames, fps=Fraction(30000, 1001))
    assert numbers(ntsc) == [0, 29, 58, 87]  # not 0, 30, 60, 90: the reference truncates 29.97
    assert numbers(ntsc, max_frames=3) == [0, 29, 87]  # linspace(0, 3, 3) = 0, 1.5, 3, truncated
    assert numbers(media.write_media(tmp_path / "c.webm", frames[:30], fps=10)) == [0, 10, 20]


def test_variable_rate_goes_by_time(tmp_path):
    times = [k / 10 for k in range(20)] + [2 + k / 30 for k in range(60)]
    frames = [media.numbered(k) for k in range(len(times))]
    assert numbers(media.write_media(tmp_path / "a.mp4", frames, fps=30, times=times)) == [0, 10, 20, 50]


def test_slow_rate_takes_every_frame(tmp_path):
    frames = [media.numbered(k) for k in range(4)]
    path = media.write_media(tmp_path / "a.mp4", frames, fps=Fraction(1, 2))
    assert numbers(path) == [0, 1, 2, 3]


def test_rotation_in_the_container_is_undone(tmp_path):
    upright = np.zeros((64, 96, 3), np.uint8)
    upright[:32, :48] = 255  # white top left
    stored = np.ascontiguousarray(np.rot90(upright, k=-1))  # as a phone stores it; the file says: turn back by 90
    path = media.write_media(tmp_path / "a.mp4", [stored] * 3, rotation=90)
    image = simplejpeg.decode_jpeg(video.read_frames(path, 32, 12)[0][0])
    expected = video.crop_square(upright, 32)
    assert np.abs(image.astype(int) - expected).mean() < 12


def test_one_frame(tmp_path):
    assert numbers(media.write_media(tmp_path / "a.mp4", [media.numbered(77)])) == [77]


def noise_video(tmp_path: pathlib.Path) -> bytes:
    """100 frames with the header in front, so that the file opens however much is missing."""
    random = np.random.default_rng(0)
    frames = random.integers(0, 255, (100, 64, 64, 3), np.uint8)
    path = media.write_media(tmp_path / "whole.mp4", frames, options={"movflags": "faststart"})
    assert len(video.read_frames(path, 32, 12)[0]) == 4
    return pathlib.Path(path).read_bytes()


def fails(path: pathlib.Path, content: bytes | None, match: str) -> None:
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(MediaError, match=match) as caught:
        video.read_frames(str(path), 32, 12)
    assert str(path) in str(caught.value)


def test_truncated_or_damaged_mp4(tmp_path):
    whole = noise_video(tmp_path)
    fails(
        tmp_path / "cut.mp4", whole[: len(whole) * 6 // 10], r"cut short: it should last 4\.0 s, its data ends at 2\."
    )
    fails(tmp_path / "headless.mp4", whole[:600], "not a readable media file, or cut short")
    middle = slice(len(whole) // 3, len(whole) * 2 // 3)
    damaged = whole[: middle.start] + b"\xff" * (middle.stop - middle.start) + whole[middle.stop :]
    fails(tmp_path / "damaged.mp4", damaged, "damaged: .* packets fail to decode")
    nothing = whole[:3000] + b"\xff" * (len(whole) - 3000)
    fails(tmp_path / "nothing.mp4", nothing, "no frame can be decoded|damaged")


def test_truncated_webm(tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (60, 64, 64, 3), np.uint8)
    whole = pathlib.Path(media.write_media(tmp_path / "whole.webm", frames, fps=15)).read_bytes()
    fails(tmp_path / "cut.webm", whole[: len(whole) // 2], "cut short")


def test_files_that_are_no_videos(tmp_path):
    fails(tmp_path / "empty.mp4", b"", r"empty\.mp4: an empty file \(0 bytes\)")
    fails(tmp_path / "text.mp4", b"a text file\n" * 100, "not a readable media file")
    fails(tmp_path / "missing.mp4", None, "no such file")
    media.write_media(tmp_path / "sound.mp4", sound=media.tone(16000, 1))
    fails(tmp_path / "sound.mp4", None, "no video stream")
