"""Pictures as they are meant to be seen: turned and mirrored in all eight ways, with square pixels."""

import pathlib
import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from helpers import media
from PIL import Image

from data_prep.media import video
from data_prep.teachers import sampling

UPRIGHT = np.zeros((64, 96, 3), np.uint8)
UPRIGHT[:32, :48] = 255  # white top left
UPRIGHT[32:, :24] = (255, 0, 0)
# Of EXIF: what is done to the upright picture to get the stored one.
STORED = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: np.rot90(x, -1),
}
# Of a track's header: where the stored axes go, (a, b, c, d) with across = a·x + c·y and down = b·x + d·y.
MATRICES = {
    1: (1, 0, 0, 1), 2: (-1, 0, 0, 1), 3: (-1, 0, 0, -1), 4: (1, 0, 0, -1),
    5: (0, 1, 1, 0), 6: (0, 1, -1, 0), 7: (0, -1, -1, 0), 8: (0, -1, 1, 0),
}  # fmt: skip


def seen(path: str, size: int = 32) -> np.ndarray:
    (picture, *_), _ = video.read_frames(path, size, 12, raw=True)
    return np.frombuffer(picture, np.uint8).reshape(size, size, 3).astype(int)


@pytest.mark.parametrize("orientation", STORED)
def test_videos(tmp_path, orientation):
    stored = np.ascontiguousarray(STORED[orientation](UPRIGHT))
    path = pathlib.Path(media.write_media(tmp_path / "a.mp4", [stored] * 3, pix_fmt="yuv444p"))
    whole = bytearray(path.read_bytes())
    a, b, c, d = (65536 * value for value in MATRICES[orientation])
    at = whole.index(b"tkhd") + 44
    whole[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(whole)
    assert np.abs(seen(str(path)) - video.crop_square(UPRIGHT, 32)).mean() < 12
    (taught,) = sampling.evenly_spaced(str(path), 1, lambda image: video.crop_square(image, 32))
    np.testing.assert_array_equal(taught, seen(str(path)))


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
@pytest.mark.parametrize("orientation", STORED)
def test_pictures(tmp_path, orientation, suffix):
    picture, exif = Image.fromarray(np.ascontiguousarray(STORED[orientation](UPRIGHT))), Image.Exif()
    exif[0x0112] = orientation
    picture.save(tmp_path / f"a.{suffix}", exif=exif, **{} if suffix == "tiff" else {"quality": 95})
    assert np.abs(seen(str(tmp_path)) - video.crop_square(UPRIGHT, 32)).mean() < 12


@pytest.mark.parametrize("orientation", [1, 6])
def test_sixteen_bits_are_turned_as_well(tmp_path, orientation):
    grey = UPRIGHT[..., 0].astype(np.uint16) * 257
    picture, exif = Image.fromarray(np.ascontiguousarray(STORED[orientation](grey))), Image.Exif()
    exif[0x0112] = orientation
    picture.save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(seen(str(tmp_path))[..., 0], video.crop_square(UPRIGHT, 32)[..., 0])


# ---------------------------------------------------------------- pixels that are no squares


def anamorphic(path: pathlib.Path, image: np.ndarray, aspect: Fraction, rotation: int = 0) -> str:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=5)
        stream.height, stream.width = image.shape[:2]
        stream.pix_fmt = "yuv444p"
        stream.codec_context.sample_aspect_ratio = aspect
        if rotation:
            stream.set_display_rotation(rotation)
        for number in range(3):
            frame = av.VideoFrame.from_ndarray(image, "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 5)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return str(path)


def disc(height: int, width: int, across: float) -> np.ndarray:
    """White on black, `across` times as wide as high."""
    y, x = np.mgrid[:height, :width] + 0.5
    inside = ((x - width / 2) / across) ** 2 + (y - height / 2) ** 2 < 20**2
    return (255 * inside[..., None].repeat(3, axis=2)).astype(np.uint8)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
@pytest.mark.parametrize(("aspect", "shape"), [(Fraction(16, 11), (64, 88)), (Fraction(1, 2), (64, 128))])
def test_a_disc_is_round(tmp_path, suffix, aspect, shape):
    image = seen(anamorphic(tmp_path / f"a{suffix}", disc(*shape, 1 / aspect), aspect), 64)[..., 0] > 127
    width, height = image.any(axis=0).sum(), image.any(axis=1).sum()
    assert abs(width - height) <= 2 and height > 35


def test_a_disc_that_is_also_turned_is_round(tmp_path):
    path = anamorphic(tmp_path / "a.mp4", disc(64, 96, 0.5), Fraction(2, 1), rotation=90)
    image = seen(path, 64)[..., 0] > 127
    assert abs(image.any(axis=0).sum() - image.any(axis=1).sum()) <= 2


def test_an_absurd_ratio_changes_nothing(tmp_path):
    plain = seen(anamorphic(tmp_path / "a.mp4", UPRIGHT, Fraction(1, 1)))
    np.testing.assert_array_equal(seen(anamorphic(tmp_path / "b.mp4", UPRIGHT, Fraction(255, 1))), plain)
