"""Pictures of one clip: one a second out of a media file or a folder of pictures, cropped square, as JPEG.

In: a path; out: at most `max_frames` JPEGs in time order. Frame choice and geometry follow the loader of
CLIP4Clip and AVIGATE (OpenCV, index `second * int(fps)`; torchvision 0.14's Resize and CenterCrop over Pillow's bicubic
filter) with two differences: a variable frame rate goes by time stamps, and a rate below 1 takes every frame where the
reference divides by zero.
"""

import os
import re
from collections.abc import Iterator

import av
import numpy as np
import simplejpeg
from av.video.reformatter import VideoReformatter
from PIL import Image, ImageOps

from data_prep.media.decode import MediaError, Video, open_video

JPEG_QUALITY = 95
# Frames further than this from `index / fps` make the rate variable; jitter below it moves no choice noticeably.
_JITTER_SECONDS = 0.25
_TIME_ROUNDING = 1e-3  # webm rounds time stamps to milliseconds
_LONG = 8  # longer side to shorter one; no film is that wide
_PICTURES = (".jpg", ".jpeg", ".png", ".webp")


# ---------------------------------------------------------------- which frames


def frame_indices(fps: float, frame_count: int) -> list[int]:
    """The reference's rule for a constant rate: the frame of index `second * int(fps)` for each second."""
    return list(range(0, frame_count, max(1, int(fps))))


def choose(count: int, max_frames: int) -> list[int]:
    """Positions of the frames to keep of `count`: all, or `max_frames` evenly spaced ones with both ends."""
    if count <= max_frames:
        return list(range(count))
    return np.linspace(0, count - 1, max_frames).astype(int).tolist()


def is_constant(times: np.ndarray, fps: float) -> bool:
    """Whether frames at these times (seconds, ascending) lie where a constant `fps` puts them."""
    drift = np.asarray(times) - times[0] - np.arange(len(times)) / fps
    return bool(np.abs(drift).max() <= _JITTER_SECONDS)


def each_second(file: Video) -> tuple[list[int], np.ndarray]:
    """Ranks of one frame a second, and their seconds from the first frame."""
    if not len(file.times):
        return [], np.zeros(0)
    if file.fps and is_constant(file.times, file.fps):
        ranks = frame_indices(file.fps, len(file.times))
        return ranks, np.array(ranks) / file.fps
    elapsed = file.times - file.times[0]
    second = (elapsed + _TIME_ROUNDING).astype(int)
    ranks = np.flatnonzero(np.diff(second, prepend=-1))  # the first frame of each second that has one
    return ranks.tolist(), elapsed[ranks]


# ---------------------------------------------------------------- geometry


def geometry(width: int, height: int, size: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """((width, height) with the shorter side `size`, (left, top) of the centre square in it).

    The longer side is truncated and the offset rounds halves to even, as torchvision 0.14 does.
    """
    scaled = (size, int(size * height / width)) if width <= height else (int(size * width / height), size)
    return scaled, (round((scaled[0] - size) / 2), round((scaled[1] - size) / 2))


def crop_square(image: np.ndarray, size: int) -> np.ndarray:
    """uint8 [height, width, 3] → uint8 [size, size, 3]: shorter side to `size`, then the centre."""
    scaled, (left, top) = geometry(image.shape[1], image.shape[0], size)
    picture = Image.fromarray(np.ascontiguousarray(image))
    if max(picture.size) > _LONG * min(picture.size):
        # Resized whole, a line of 65535 × 1 would take 10 GB. Its middle alone comes out the same but for rounding,
        # as Pillow may take its two passes in the other order.
        across, down = picture.width / scaled[0], picture.height / scaled[1]
        box = (left * across, top * down, (left + size) * across, (top + size) * down)
        return np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC, box))
    if min(picture.size) != size:
        picture = picture.resize(scaled, Image.Resampling.BICUBIC)
    return np.asarray(picture.crop((left, top, left + size, top + size)))


# ---------------------------------------------------------------- the clip


def read_frames(path: str, image_size: int, max_frames: int, raw: bool = False) -> tuple[list[bytes], np.ndarray]:
    """JPEGs (4:4:4), or raw RGB, of `image_size` squares, one a second, at most `max_frames`, in time order.

    Returns them and float32 [frames], their seconds from the first frame. A folder of pictures (.jpg, .jpeg, .png,
    .webp, in natural order of names) counts as one picture a second. Frames are chosen before one is decoded: memory
    grows with neither length nor picture size.
    Raises MediaError for a missing, empty, foreign, damaged or truncated file and for one without pictures.
    """
    chosen = pictures_of_folder(path, max_frames) if os.path.isdir(path) else _from_file(path, max_frames)
    pictures, times = [], []
    for image, time in chosen:
        square = np.ascontiguousarray(crop_square(image, image_size))
        pictures.append(square.tobytes() if raw else simplejpeg.encode_jpeg(square, JPEG_QUALITY, "RGB", "444"))
        times.append(time)
    return pictures, np.array(times, np.float32)


def _from_file(path: str, max_frames: int) -> Iterator[tuple[np.ndarray, float]]:
    """uint8 [height, width, 3] and seconds of each chosen frame."""
    with open_video(path) as file:
        ranks, seconds = each_second(file)
        seconds_of = dict(zip(ranks, seconds, strict=True))
        convert = VideoReformatter()  # one for all frames: setting up a conversion takes longer than running it
        for rank, frame in file.frames([ranks[k] for k in choose(len(ranks), max_frames)]):
            yield upright(frame, convert), seconds_of.get(rank, file.times[rank] - file.times[0])


def upright(frame: av.VideoFrame, convert: VideoReformatter) -> np.ndarray:
    """uint8 [height, width, 3], turned as the file says: phones film sideways. One `convert` serves a whole video."""
    image = convert.reformat(frame, format="rgb24", threads=1).to_ndarray()
    return np.rot90(image, k=round(frame.rotation / 90) % 4)


def pictures_of_folder(path: str, max_frames: int) -> Iterator[tuple[np.ndarray, float]]:
    """The same of a folder."""
    names = [entry for entry in os.listdir(path) if entry.lower().endswith(_PICTURES) and not entry.startswith(".")]
    if not names:
        raise MediaError(f"{path}: no picture in this folder ({', '.join(_PICTURES)})")
    names.sort(key=_natural)
    for second in choose(len(names), max_frames):
        file = os.path.join(path, names[second])
        try:
            with Image.open(file) as picture:
                image = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise MediaError(f"{file}: not a readable picture ({error})") from error
        yield image, float(second)


def _natural(name: str) -> tuple[list[str | int], str]:
    """Sorts frame9 before frame10."""
    parts: list[str | int] = re.split(r"([0-9]+)", name)
    parts[1::2] = map(int, parts[1::2])
    return parts, name
