"""Pictures of one media file: decoded in order with PyAV, one a second, cropped square, as JPEG.

In: a path; out: at most `max_frames` JPEGs in time order. Frame choice and geometry follow the loader of
CLIP4Clip and AVIGATE (OpenCV, index `second * int(fps)`; torchvision 0.14's Resize and CenterCrop over Pillow's bicubic
filter) with two differences: a variable frame rate goes by time stamps, and a rate below 1 takes every frame where the
reference divides by zero.
"""

import contextlib
from collections.abc import Iterator

import av
import numpy as np
import simplejpeg
from PIL import Image

JPEG_QUALITY = 95
# A file counts as damaged when this share of it, and more than this many seconds, is missing: headers round durations,
# and a frame or two lost at the end of a web video is usual.
_LOSS_SHARE, _LOSS_SECONDS = 0.1, 1.0
# Frames further than this from `index / fps` make the rate variable; jitter below it moves no choice noticeably.
_JITTER_SECONDS = 0.25
_TIME_ROUNDING = 1e-3  # webm rounds time stamps to milliseconds


class MediaError(ValueError):
    """A media file cannot be used; the message says why. It costs its clip, not the build."""


@contextlib.contextmanager
def open_media(path: str) -> Iterator[av.container.InputContainer]:
    """An open container, or MediaError where the file is missing or is not a media file."""
    try:
        container = av.open(path, metadata_errors="replace")
    except FileNotFoundError as error:
        raise MediaError(f"{path}: no such file") from error
    except (av.error.FFmpegError, OSError) as error:
        raise MediaError(f"{path}: not a readable media file, or cut short ({error.strerror})") from error
    with container:
        yield container


# ---------------------------------------------------------------- which frames


def frame_indices(fps: float, frame_count: int, per_second: int = 1) -> list[int]:
    """The reference's rule for a constant rate: `per_second` frames from index `second * int(fps)` for each second."""
    second = max(1, int(fps))
    offsets = [second * k // per_second for k in range(per_second)]
    return [
        start + offset for start in range(0, frame_count, second) for offset in offsets if start + offset < frame_count
    ]


def choose(count: int, max_frames: int, keep: str = "spread") -> list[int]:
    """Positions of the frames to keep of `count`: all, or `max_frames` evenly spaced ones with both ends.

    `keep="first"` and `"last"` are the other choices that the reference's loader offers; no published run takes them.
    """
    if count <= max_frames:
        return list(range(count))
    if keep != "spread":
        return list(range(count))[:max_frames] if keep == "first" else list(range(count))[-max_frames:]
    return np.linspace(0, count - 1, max_frames).astype(int).tolist()


def is_constant(times: list[float], fps: float) -> bool:
    """Whether frames at these times (seconds, ascending) lie where a constant `fps` puts them."""
    drift = np.array(times) - times[0] - np.arange(len(times)) / fps
    return bool(np.abs(drift).max() <= _JITTER_SECONDS)


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
    picture = Image.fromarray(image)
    if min(picture.size) != size:
        picture = picture.resize(scaled, Image.Resampling.BICUBIC)
    return np.asarray(picture.crop((left, top, left + size, top + size)))


def _upright(frame: av.VideoFrame) -> np.ndarray:
    """uint8 [height, width, 3], turned as the container asks (phones film sideways and say so in metadata)."""
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), k=round(frame.rotation / 90) % 4))


# ---------------------------------------------------------------- the file


def _packet_times(path: str) -> list[float]:
    """Times of the picture packets, ascending, not decoded. MediaError: no video stream, or the file is cut short."""
    with open_media(path) as container:
        if not container.streams.video:
            raise MediaError(f"{path}: no video stream")
        picture, times, end = container.streams.video[0].index, [], 0.0
        try:
            for packet in container.demux():
                stamp = packet.dts if packet.pts is None else packet.pts
                if stamp is None or packet.is_discard:
                    continue
                end = max(end, float((stamp + (packet.duration or 0)) * packet.time_base))
                if packet.stream.index == picture:
                    times.append(float(stamp * packet.time_base))
        except (av.error.FFmpegError, OSError) as error:
            raise MediaError(f"{path}: reading stops at {end:.1f} s ({error.strerror})") from error
        said = ((container.start_time or 0) + (container.duration or 0)) / av.time_base
        if said - end > max(_LOSS_SECONDS, _LOSS_SHARE * said):
            raise MediaError(f"{path}: cut short: it should last {said:.1f} s, its data ends at {end:.1f} s")
    return sorted(times)


def _decoded(path: str, times: list[float]) -> Iterator[tuple[int, float | None, av.VideoFrame]]:
    """Every frame with its number and time. MediaError at the end if too much of the stream did not decode."""
    with open_media(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1  # one process per core decodes already
        packets, errors, reason, number, last = 0, 0, "", 0, -np.inf
        for packet in container.demux(stream):
            packets += 1
            try:
                frames = packet.decode()
            except av.error.FFmpegError as error:  # players skip a bad packet as well; the sum is judged below
                errors, reason = errors + 1, str(error.strerror)
                continue
            for frame in frames:
                yield number, frame.time, frame
                number += 1
                last = max(last, frame.time or 0.0)
        if not number:
            raise MediaError(f"{path}: no frame can be decoded ({reason or 'the video stream is empty'})")
        lost = times[-1] - last if times else 0.0
        if errors > _LOSS_SHARE * packets or lost > max(_LOSS_SECONDS, _LOSS_SHARE * (times[-1] - times[0])):
            raise MediaError(
                f"{path}: damaged: {errors} of {packets} packets fail to decode, "
                f"the last frame is {max(lost, 0):.1f} s before the stream's end ({reason or 'no error reported'})"
            )


def read_frames(path: str, image_size: int, max_frames: int, raw: bool = False) -> tuple[list[bytes], np.ndarray]:
    """JPEGs (4:4:4), or raw RGB, of `image_size` squares, one a second, at most `max_frames`, in time order.

    Returns them and float32 [frames], their seconds from the first frame.

    Candidates are compressed as they come, so that memory does not grow with the picture size and hardly with length.
    Raises MediaError for a missing, empty, foreign, damaged or truncated file and for one without pictures.
    """
    times = _packet_times(path)
    with open_media(path) as container:
        fps = container.streams.video[0].guessed_rate  # what OpenCV reports as CAP_PROP_FPS
    constant = bool(fps and times) and is_constant(times, float(fps))
    wanted = set(frame_indices(float(fps), len(times))) if constant else set()
    candidates, start, second = [], None, -1
    for number, time, frame in _decoded(path, times):
        if not constant:
            time = float(number) if time is None else time
            start = time if start is None else start
            now = int(time - start + _TIME_ROUNDING)
            if now > second:  # the first frame of each second that has one
                second = now
                wanted.add(number)
        if number in wanted:
            square = np.ascontiguousarray(crop_square(_upright(frame), image_size))
            data = square.tobytes() if raw else simplejpeg.encode_jpeg(square, JPEG_QUALITY, "RGB", "444")
            candidates.append((data, number / float(fps) if constant else time - start))
    chosen = [candidates[position] for position in choose(len(candidates), max_frames)]
    return [data for data, _ in chosen], np.array([time for _, time in chosen], np.float32)
