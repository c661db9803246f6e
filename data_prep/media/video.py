"""Pictures of one clip: one a second out of a media file or a folder of pictures, cropped square, as JPEG.

In: a path; out: at most `max_frames` JPEGs in time order. Frame choice and geometry follow the loader of
CLIP4Clip and AVIGATE (OpenCV, index `second * int(fps)`; torchvision 0.14's Resize and CenterCrop over Pillow's bicubic
filter) with two differences: a variable frame rate goes by time stamps, and a rate below 1 takes every frame where the
reference divides by zero.
"""

import os

import av
import numpy as np
import simplejpeg
from av.video.reformatter import VideoReformatter
from PIL import Image

from data_prep.media.decode import Video, use_video
from data_prep.media.stills import pictures_of_folder
from data_prep.media.tracks import Tell, silent

JPEG_QUALITY = 95
# Frames further than this from `index / fps` make the rate variable; jitter below it moves no choice noticeably.
_JITTER_SECONDS = 0.25
_TIME_ROUNDING = 1e-3  # webm rounds time stamps to milliseconds
_LONG = 8  # longer side to shorter one; no film is that wide
_WIDEST = 4  # width of a pixel by its height, or the reverse; more is a damaged header


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


def read_frames(
    path: str, image_size: int, max_frames: int, raw: bool = False, tell: Tell = silent
) -> tuple[list[bytes], np.ndarray]:
    """JPEGs (4:4:4), or raw RGB, of `image_size` squares, one a second, at most `max_frames`, in time order.

    Returns them and float32 [frames], their seconds from the first frame. A folder of pictures (`stills.SUFFIXES`, in
    natural order of names) counts as one picture a second. Frames are chosen before one is decoded: memory grows with
    neither length nor picture size. `tell` hears of what was guessed or altered.
    Raises MediaError for a missing, empty, foreign, damaged or truncated file and for one without pictures.
    """

    def square(image: np.ndarray) -> bytes:
        pixels = np.ascontiguousarray(crop_square(image, image_size))
        return pixels.tobytes() if raw else simplejpeg.encode_jpeg(pixels, JPEG_QUALITY, "RGB", "444")

    def of_video(file: Video) -> list[tuple[bytes, float]]:
        ranks, seconds = each_second(file)
        seconds_of = dict(zip(ranks, seconds, strict=True))
        convert = VideoReformatter()  # one for all frames: setting up a conversion takes longer than running it
        return [
            (square(upright(frame, convert, file.aspect)), seconds_of.get(rank, file.times[rank] - file.times[0]))
            for rank, frame in file.frames([ranks[k] for k in choose(len(ranks), max_frames)])
        ]

    if os.path.isdir(path):
        chosen = [(square(image), second) for image, second in pictures_of_folder(path, max_frames, tell)]
    else:
        chosen = use_video(path, of_video, tell)
    return [picture for picture, _ in chosen], np.array([time for _, time in chosen], np.float32)


def upright(frame: av.VideoFrame, convert: VideoReformatter, aspect: float = 1.0) -> np.ndarray:
    """uint8 [height, width, 3] of square pixels, turned and mirrored as the file says: phones film sideways.

    One `convert` serves a whole video. `aspect`: width of a stored pixel by its height.
    """
    width, height = frame.width, frame.height
    if 1 / _WIDEST <= aspect <= _WIDEST:  # enlarged, so that nothing is lost before the crop
        width, height = round(width * max(aspect, 1)), round(height * max(1 / aspect, 1))
    if (width, height) == (frame.width, frame.height):
        image = convert.reformat(frame, format="rgb24", threads=1).to_ndarray()
    else:
        image = convert.reformat(frame, width, height, "rgb24", interpolation="BICUBIC", threads=1).to_ndarray()
    return turned(image, frame)


def turned(image: np.ndarray, frame: av.VideoFrame) -> np.ndarray:
    """A picture, [height, width, 3], turned and mirrored as the file says of the frame that it was made of."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return image
    # Where the stored axes go: across = a·x + c·y, down = b·x + d·y.
    (a, b), (c, d) = np.frombuffer(bytes(data), np.int32).reshape(3, 3)[:2, :2].tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):
        image, a, d = image.swapaxes(0, 1), c, b
    return image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
