"""Draws the pictures of the demo corpus with Pillow: a coloured icon that moves over a background, frame by frame.

The icons differ in outline, the colours in hue and the backgrounds in brightness and muted tint, so that all of them
can still be told apart at 32×32 pixels. The object stays within the centre square, which is what a model sees.
"""

from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageDraw

COLOUR_VALUES = {
    "red": (225, 20, 25),
    "orange": (255, 135, 0),
    "yellow": (255, 232, 0),
    "green": (30, 200, 50),
    "blue": (25, 60, 255),
    "purple": (130, 25, 200),
    "pink": (255, 105, 200),
    "turquoise": (0, 225, 225),
}
_CANVAS = 256  # icons are drawn at this size and made smaller: Pillow's own drawing is not antialiased
_INK = (15, 15, 15)
_PALE = (245, 245, 245)
_LINE = 9
Colour = tuple[int, int, int]


def frames(
    rng: np.random.Generator, thing: str, colour: str, place: str, motion: str, size: tuple[int, int], count: int
) -> Iterator[Image.Image]:
    """The pictures of one clip, in order; the longer side of the object is 45–90 % of the shorter side of the frame."""
    width, height = size
    side = min(size)
    background = draw_background(place, rng, size)
    icon = draw_icon(thing, COLOUR_VALUES[colour])
    if motion == "right":
        icon = icon.transpose(Image.Transpose.FLIP_LEFT_RIGHT)  # icons look to the left
    scale = rng.uniform(0.62, 0.78) if motion == "still" else rng.uniform(0.5, 0.6)
    drift = rng.uniform(-1, 1, 2) * 0.5
    bounces = rng.uniform(1.2, 2.2)  # few: a model sees one frame a second
    for k in range(count):
        progress = k / max(count - 1, 1)
        offset = drift.copy()  # of the free room around the object: −1 is left or top of the centre square
        if motion in ("left", "right"):
            offset[0] = (1 if motion == "left" else -1) * (1 - 2 * progress)
        elif motion == "up and down":
            offset[1] = np.cos(2 * np.pi * bounces * progress)
        elif motion == "growing":
            scale = 0.45 + 0.45 * progress
        sprite = _resized(icon, round(scale * side))
        room = (side - np.array(sprite.size)) / 2
        x, y = np.array([width, height]) / 2 + offset * room - np.array(sprite.size) / 2
        picture = background.copy()
        picture.paste(sprite, (round(x), round(y)), sprite)
        yield picture


def _resized(icon: Image.Image, longer_side: int) -> Image.Image:
    factor = longer_side / max(icon.size)
    return icon.resize(
        (round(icon.width * factor), round(icon.height * factor)), Image.Resampling.BILINEAR, reducing_gap=2
    )


def draw_icon(thing: str, colour: Colour) -> Image.Image:
    """RGBA, cropped to the object."""
    image = Image.new("RGBA", (_CANVAS, _CANVAS), (*colour, 0))
    _ICONS[thing](ImageDraw.Draw(image), colour)
    return image.crop(image.getbbox())


def _car(d: ImageDraw.ImageDraw, c: Colour) -> None:
    d.polygon([(60, 110), (95, 55), (185, 55), (215, 110)], fill=c, outline=_INK, width=_LINE)
    d.rounded_rectangle((6, 102, 250, 182), 22, fill=c, outline=_INK, width=_LINE)
    d.polygon([(82, 104), (104, 70), (134, 70), (134, 104)], fill=_PALE)
    d.polygon([(148, 104), (148, 70), (178, 70), (196, 104)], fill=_PALE)
    for x in (66, 190):
        d.ellipse((x - 34, 146, x + 34, 214), fill=_INK)
        d.ellipse((x - 14, 166, x + 14, 194), fill=_PALE)


def _bird(d: ImageDraw.ImageDraw, c: Colour) -> None:
    d.polygon([(160, 150), (250, 118), (238, 196)], fill=c, outline=_INK, width=_LINE)  # tail
    d.ellipse((50, 92, 210, 202), fill=c, outline=_INK, width=_LINE)
    d.polygon([(42, 92), (4, 108), (44, 120)], fill=_INK)  # beak
    d.ellipse((30, 60, 116, 146), fill=c, outline=_INK, width=_LINE)
    d.rectangle((70, 100, 112, 138), fill=c)
    d.ellipse((54, 82, 74, 102), fill=_INK)
    d.polygon([(110, 140), (182, 20), (196, 136)], fill=c, outline=_INK, width=_LINE)  # raised wing
    for x in (112, 142):
        d.line((x, 196, x - 8, 240), fill=_INK, width=_LINE)


def _bell(d: ImageDraw.ImageDraw, c: Colour) -> None:
    d.ellipse((106, 6, 150, 50), outline=_INK, width=12)
    d.ellipse((100, 190, 156, 248), fill=_INK)  # clapper
    d.polygon(
        [(128, 40), (166, 54), (186, 90), (194, 150), (232, 206), (24, 206), (62, 150), (70, 90), (90, 54)],
        fill=c,
        outline=_INK,
        width=_LINE,
    )
    d.line((52, 172, 204, 172), fill=_INK, width=_LINE)


def _drum(d: ImageDraw.ImageDraw, c: Colour) -> None:
    d.rectangle((26, 96, 230, 206), fill=c)
    d.ellipse((26, 166, 230, 246), fill=c, outline=_INK, width=_LINE)
    d.rectangle((31, 100, 225, 206), fill=c)
    for x in (26, 230):
        d.line((x, 96, x, 206), fill=_INK, width=_LINE)
    d.line([(28, 110), (77, 226), (128, 140), (179, 226), (228, 110)], fill=_INK, width=_LINE)
    d.ellipse((26, 56, 230, 136), fill=_PALE, outline=_INK, width=_LINE)
    for start, end in (((20, 8), (120, 92)), ((236, 8), (146, 96))):  # sticks
        d.line((*start, *end), fill=_INK, width=13)


def _boat(d: ImageDraw.ImageDraw, c: Colour) -> None:
    d.line((132, 8, 132, 180), fill=_INK, width=12)
    d.polygon([(120, 16), (120, 158), (26, 158)], fill=c, outline=_INK, width=_LINE)
    d.polygon([(146, 40), (146, 158), (228, 158)], fill=_PALE, outline=_INK, width=_LINE)
    d.polygon([(4, 176), (252, 176), (210, 246), (52, 246)], fill=c, outline=_INK, width=_LINE)


def _dog(d: ImageDraw.ImageDraw, c: Colour) -> None:
    d.line([(214, 118), (246, 62)], fill=_INK, width=26)
    d.line([(216, 116), (244, 66)], fill=c, width=12)  # tail
    for x in (76, 112, 176, 208):
        d.rectangle((x - 14, 160, x + 14, 240), fill=c, outline=_INK, width=_LINE)
    d.rounded_rectangle((64, 100, 226, 186), 30, fill=c, outline=_INK, width=_LINE)
    d.rounded_rectangle((8, 72, 70, 122), 18, fill=c, outline=_INK, width=_LINE)  # muzzle
    d.ellipse((34, 26, 134, 130), fill=c, outline=_INK, width=_LINE)
    d.rectangle((42, 82, 66, 112), fill=c)
    d.ellipse((4, 72, 30, 96), fill=_INK)
    d.ellipse((58, 58, 76, 76), fill=_INK)
    d.ellipse((98, 30, 146, 128), fill=_INK)  # ear


def _clock(d: ImageDraw.ImageDraw, c: Colour) -> None:
    d.ellipse((6, 6, 250, 250), fill=c, outline=_INK, width=_LINE)
    d.ellipse((50, 50, 206, 206), fill=_PALE, outline=_INK, width=_LINE)
    for x, y in ((128, 66), (128, 190), (66, 128), (190, 128)):
        d.ellipse((x - 8, y - 8, x + 8, y + 8), fill=_INK)
    d.line((128, 128, 128, 80), fill=_INK, width=14)
    d.line((128, 128, 168, 152), fill=_INK, width=14)


def _train(d: ImageDraw.ImageDraw, c: Colour) -> None:
    d.polygon([(36, 30), (96, 30), (80, 96), (52, 96)], fill=c, outline=_INK, width=_LINE)  # funnel
    d.rounded_rectangle((14, 88, 170, 176), 16, fill=c, outline=_INK, width=_LINE)  # boiler
    d.rectangle((154, 40, 244, 176), fill=c, outline=_INK, width=_LINE)  # cab
    d.rectangle((142, 22, 254, 48), fill=_INK)
    d.rectangle((176, 68, 222, 114), fill=_PALE)
    d.polygon([(14, 176), (34, 176), (34, 222), (0, 222)], fill=_INK)
    d.rectangle((14, 168, 244, 186), fill=_INK)
    for x, r in ((66, 27), (126, 27), (204, 40)):
        d.ellipse((x - r, 234 - 2 * r, x + r, 234), fill=_INK)
        d.ellipse((x - r // 2, 234 - r - r // 2, x + r // 2, 234 - r + r // 2), fill=c)


def _house(d: ImageDraw.ImageDraw, c: Colour) -> None:
    d.rectangle((176, 24, 210, 100), fill=c, outline=_INK, width=_LINE)  # chimney
    d.rectangle((34, 112, 222, 248), fill=c, outline=_INK, width=_LINE)
    d.polygon([(128, 8), (252, 124), (4, 124)], fill=c, outline=_INK, width=_LINE)
    d.rectangle((104, 168, 152, 248), fill=_INK)
    for x in (54, 168):
        d.rectangle((x, 144, x + 34, 180), fill=_PALE)


def _phone(d: ImageDraw.ImageDraw, c: Colour) -> None:
    """A smartphone: tall, with screen and keys; an old receiver would look like the bell when small."""
    d.rounded_rectangle((60, 4, 196, 252), 24, fill=c, outline=_INK, width=_LINE)
    d.line((108, 24, 148, 24), fill=_INK, width=8)
    d.rectangle((80, 42, 176, 132), fill=_PALE, outline=_INK, width=6)
    for y in (150, 182, 214):
        for x in (80, 116, 152):
            d.rectangle((x, y, x + 24, y + 20), fill=_INK)


_ICONS = {
    "car": _car,
    "bird": _bird,
    "bell": _bell,
    "drum": _drum,
    "boat": _boat,
    "dog": _dog,
    "clock": _clock,
    "train": _train,
    "house": _house,
    "phone": _phone,
}


def draw_background(place: str, rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """Muted, so that it competes with no object colour; its details are placed at random."""
    width, height = size
    image = Image.new("RGB", size)
    d = ImageDraw.Draw(image)
    horizon = round(height * rng.uniform(0.45, 0.6))

    def points(count: int, top: float, bottom: float) -> list[tuple[float, float]]:
        return [(float(rng.uniform(0, width)), float(rng.uniform(top, bottom))) for _ in range(count)]

    match place:
        case "beach":
            d.rectangle((0, 0, width, horizon), fill=(200, 222, 238))
            d.rectangle((0, horizon - height // 5, width, horizon), fill=(95, 140, 165))
            d.rectangle((0, horizon, width, height), fill=(232, 212, 165))
            for x, y in points(40, horizon, height):
                d.point((x, y), fill=(190, 165, 120))
        case "forest":
            d.rectangle((0, 0, width, height), fill=(38, 66, 40))
            d.rectangle((0, height - height // 6, width, height), fill=(62, 52, 36))
            for x in np.linspace(0, width, 9) + rng.uniform(-8, 8, 9):
                d.rectangle((x, 0, x + width * 0.035, height - height // 8), fill=(66, 48, 34))
                d.ellipse((x - 16, -height * 0.1, x + 24, height * 0.3), fill=(26, 50, 30))
        case "night street":
            d.rectangle((0, 0, width, height), fill=(14, 14, 32))
            d.rectangle((0, height - height // 4, width, height), fill=(44, 44, 50))
            for x in np.arange(0, width, width / 7):
                top = rng.uniform(0.1, 0.35) * height
                d.rectangle((x, top, x + width / 8, height - height // 4), fill=(30, 30, 48))
                for y in np.arange(top + 6, height * 0.7, 16):
                    if rng.random() < 0.6:
                        d.rectangle((x + 5, y, x + 10, y + 6), fill=(205, 195, 150))
        case "snow":
            d.rectangle((0, 0, width, height), fill=(198, 203, 212))
            d.ellipse((-width * 0.3, horizon, width * 1.3, height * 1.9), fill=(248, 249, 252))
            for x, y in points(60, 0, height):
                d.ellipse((x, y, x + 3, y + 3), fill=(255, 255, 255))
        case "stage":
            d.rectangle((0, 0, width, height), fill=(92, 30, 42))
            for x in np.linspace(0, width, 13) + rng.uniform(0, 6):
                d.rectangle((x, 0, x + width / 30, height), fill=(66, 18, 30))
            d.rectangle((0, height - height // 4, width, height), fill=(128, 98, 72))
            for y in range(height - height // 4, height, 8):
                d.line((0, y, width, y), fill=(98, 72, 52))
        case "desert":
            d.rectangle((0, 0, width, height), fill=(226, 200, 168))
            for share, shade in ((0.0, (190, 140, 95)), (0.12, (172, 122, 80)), (0.3, (152, 105, 68))):
                y, x = horizon + share * height, rng.uniform(-0.6, 0.1) * width
                d.ellipse((x, y, x + 1.6 * width, y + 1.6 * height), fill=shade)
        case _:
            raise ValueError(f"no background for {place!r}")
    return image
