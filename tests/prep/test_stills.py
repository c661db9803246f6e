"""Picture files of every kind of pixel: what they show is kept, and what is altered is told."""

import io
import struct

import av
import numpy as np
import pytest
from helpers import media
from PIL import Image, ImageCms

from data_prep.clip import prepare
from data_prep.corpora import Sample
from data_prep.media import video
from data_prep.media.decode import MediaError

SIDE = 64
RAMP = np.linspace(0, 65535, SIDE)[None].repeat(SIDE, 0).astype(np.uint16)
HIGH = (RAMP >> 8).astype(int)


def seen(path: str) -> tuple[np.ndarray, list[str]]:
    told: list[str] = []
    (picture, *_), _ = video.read_frames(path, SIDE, 12, raw=True, tell=told.append)
    return np.frombuffer(picture, np.uint8).reshape(SIDE, SIDE, 3).astype(int), told


def write_tiff(path, values: np.ndarray, order: str) -> None:
    """An uncompressed TIFF of 16 bits, grey or RGB, in either order of bytes: "<" or ">"."""
    height, width = values.shape[:2]
    channels, data = values.size // (height * width), values.astype(order + "u2").tobytes()
    tags = [(256, width), (257, height), (258, 16), (259, 1), (262, 2 if channels == 3 else 1), (273, 8)]
    tags += [(277, channels), (278, height), (279, len(data)), (284, 1)]
    entries = b"".join(struct.pack(order + "HHII", tag, 4, 1, value) for tag, value in tags)
    if channels == 3:  # three values do not fit into an entry
        place = 8 + len(data)
        entries = entries.replace(
            struct.pack(order + "HHII", 258, 4, 1, 16), struct.pack(order + "HHII", 258, 3, 3, place)
        )
        data += struct.pack(order + "3H", 16, 16, 16)
    header = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8 + len(data))
    path.write_bytes(header + data + struct.pack(order + "H", len(tags)) + entries + bytes(4))


def test_sixteen_bits_of_grey(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    got, told = seen(str(tmp_path))
    np.testing.assert_array_equal(got, HIGH[..., None].repeat(3, axis=2))
    assert told == []


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_in_tiff(tmp_path, order, channels):
    values = RAMP if channels == 1 else np.stack([RAMP, RAMP // 2, 65535 - RAMP], axis=-1)
    write_tiff(tmp_path / "a.tif", values, order)
    got, told = seen(str(tmp_path))
    expected = values >> 8 if channels == 3 else HIGH[..., None].repeat(3, axis=2)
    np.testing.assert_array_equal(got, expected)
    assert told == []


@pytest.mark.parametrize("pix_fmt", ["rgb48be", "rgba64be", "gray16be", "ya16be"])
def test_sixteen_bits_in_png(tmp_path, pix_fmt):
    """Written by FFmpeg, as Pillow writes grey alone."""
    colours = np.stack([RAMP, RAMP // 2, 65535 - RAMP], axis=-1)
    frame = av.VideoFrame.from_ndarray(colours, "rgb48le").reformat(format=pix_fmt)
    codec = av.CodecContext.create("png", "w")
    codec.width = codec.height = SIDE
    codec.pix_fmt, codec.time_base = pix_fmt, 1
    (tmp_path / "a.png").write_bytes(b"".join(map(bytes, [*codec.encode(frame), *codec.encode(None)])))
    got, told = seen(str(tmp_path))
    if "rgb" in pix_fmt:
        assert np.abs(got - (colours >> 8)).max() <= 1
    else:
        luma = colours @ np.array([0.299, 0.587, 0.114]) / 256
        assert np.abs(got - luma[..., None]).max() <= 2
    assert told == []


@pytest.mark.parametrize("pix_fmt", ["gray16le", "yuv420p10le", "yuv444p16le", "gbrp12le"])
def test_more_than_eight_bits_in_video(tmp_path, pix_fmt):
    ramp = np.linspace(0, 255, SIDE)[None].repeat(SIDE, 0).astype(np.uint8)[..., None].repeat(3, axis=2)
    path = media.write_media(tmp_path / "a.mkv", [ramp] * 3, codec="ffv1", pix_fmt=pix_fmt)
    assert np.abs(seen(path)[0] - ramp).max() < 6


def test_floats_from_black_to_white(tmp_path):
    Image.fromarray((RAMP / 65535).astype(np.float32)).save(tmp_path / "a.tiff")
    assert np.abs(seen(str(tmp_path))[0][..., 0] - HIGH).max() <= 1


@pytest.mark.parametrize("values", [RAMP.astype(np.float32), RAMP.astype(np.int32) - 5, RAMP.astype(np.int32) * 9])
def test_numbers_without_a_known_white_are_refused(tmp_path, values):
    Image.fromarray(values).save(tmp_path / "a.tiff")
    with pytest.raises(MediaError, match=r"a\.tiff: not a readable picture \(its numbers go from .* save it with"):
        seen(str(tmp_path))


# ---------------------------------------------------------------- alpha, palettes, inks


def test_transparent_parts_are_white(tmp_path):
    image = np.zeros((SIDE, SIDE, 4), np.uint8)
    image[:, :32] = (200, 30, 90, 255)
    image[:, 32:] = (0, 255, 0, 0)  # a colour that nobody sees
    shown = np.full((SIDE, SIDE, 3), 255)
    shown[:, :32] = (200, 30, 90)
    said = ["1 of 1: transparent parts are shown on white"]
    picture = Image.fromarray(image)
    palette = picture.convert("RGB").convert("P", palette=Image.Palette.ADAPTIVE, colors=4)
    hidden = int(np.asarray(palette)[0, 63])
    for name, made, more in (
        ("a.png", picture, {}),
        ("b.webp", picture, {"lossless": True}),
        ("c.png", palette, {"transparency": hidden}),
    ):
        folder = tmp_path / name
        folder.mkdir()
        made.save(folder / name, **more)
        got, told = seen(str(folder))
        assert np.abs(got - shown).max() <= 2 and told == said, name


def test_opaque_alpha_and_palettes_are_as_they_were(tmp_path):
    colours = media.moving(1, SIDE, SIDE)[0]
    picture = Image.fromarray(colours)
    for mode in ("RGBA", "P", "L", "1"):
        folder = tmp_path / mode
        folder.mkdir()
        picture.convert(mode).save(folder / "a.png")
        got, told = seen(str(folder))
        np.testing.assert_array_equal(got, np.asarray(picture.convert(mode).convert("RGB")))
        assert told == []


def test_inks(tmp_path):
    inks = Image.new("CMYK", (SIDE, SIDE), (0, 255, 255, 0))
    inks.save(tmp_path / "a.jpg", quality=95)
    got, told = seen(str(tmp_path))
    assert np.abs(got - (255, 0, 0)).max() < 6
    assert told == ["1 of 1: CMYK without a usable colour profile, its colours are about right"]
    inks.save(tmp_path / "a.jpg", quality=95, icc_profile=b"no profile")
    assert seen(str(tmp_path))[1] == told
    grey = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()  # of RGB: not of these pixels
    inks.save(tmp_path / "a.jpg", quality=95, icc_profile=grey)
    assert seen(str(tmp_path))[1] == told


def test_only_the_first_page(tmp_path):
    pages = [Image.fromarray(media.numbered(k)) for k in (7, 8)]
    pages[0].save(tmp_path / "a.tiff", save_all=True, append_images=pages[1:])
    got, told = seen(str(tmp_path))
    assert media.number_of(got) == 7 and told == ["1 of 1: only the first of several pictures in a file is seen"]


def test_a_clip_notes_what_was_altered(tmp_path):
    buffer = io.BytesIO()
    Image.new("RGBA", (SIDE, SIDE), (0, 0, 0, 0)).save(buffer, "png")
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(buffer.getvalue())
    sample = Sample("a", "test", str(tmp_path), ["a"], [""], "", [], None, None, None)
    clip = prepare(sample, {"image_size": 32, "max_frames": 12, "frames": "jpeg"})
    assert clip.notes == ["pictures: 3 of 3: transparent parts are shown on white"]
