"""Pictures of a file from a second on, and one of them as a thumbnail.

Little of a file is read for it: decoding begins at the key frame before, and never goes on for long.
"""

import contextlib
import io
import time
from collections.abc import Callable, Iterator

import av
import av.container
import av.error
import numpy as np
from av.format import Flags
from av.video.reformatter import VideoReformatter
from PIL import Image

from data_prep.media import clock, tracks, video
from data_prep.media.opening import MediaError, open_media

MOST_PIXELS = 2**26  # of a picture; a header may promise any number, and memory is taken for them
_SIDE = 480  # of a thumbnail
_QUALITY = 80
# FFmpeg knows no key frames of these, and may come out behind the one that is looked for.
_UNLISTED, _EARLIER = ("mpegts", "mpeg"), 5.0
_WIDEST = 4  # width of a pixel by its height, or the reverse; more is a damaged header
_OFF = 0.5  # seconds by which two lengths of a file differ that are one
_MOST_KEPT = 20_000  # packets, of a file whose key frames are not marked
_PATIENCE = 5.0  # seconds for a thumbnail


def picture_track(container: av.container.InputContainer, path: str) -> av.VideoStream:
    """The track that is seen, ready to be decoded. Raises MediaError where there is none."""
    stream = tracks.best(container, path, "video")
    if not isinstance(stream, av.VideoStream):
        raise MediaError(f"{path}: no video stream")
    codec = stream.codec_context
    if codec.width * codec.height > MOST_PIXELS:
        raise MediaError(f"{path}: pictures of {codec.width} × {codec.height}, larger than are shown")
    codec.thread_count, codec.options = 2, {"max_pixels": str(MOST_PIXELS)}
    return stream


def go_to(container: av.container.InputContainer, zero: float, second: float) -> None:
    """To the key frame before a second. `zero`: the file's own clock at the first picture."""
    if container.format.name in _UNLISTED:
        second -= _EARLIER
    container.seek(round(max(0.0, zero + second) * av.time_base), backward=True)


def small(frame: av.VideoFrame, convert: VideoReformatter, aspect: float, side: int) -> np.ndarray:
    """uint8 [height, width, 3] of square pixels, upright, no side longer than `side`; never larger than the frame.

    Made small before anything else: the pixels of a large picture are touched once. `aspect`: width of a stored pixel
    by its height.
    """
    width, height = float(frame.width), float(frame.height)
    if 1 / _WIDEST <= aspect <= _WIDEST:
        width, height = width * max(aspect, 1), height * max(1 / aspect, 1)
    scale = min(1.0, side / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return video.turned(convert.reformat(frame, *size, "rgb24", interpolation="BICUBIC", threads=1).to_ndarray(), frame)


def is_restarting(container: av.container.InputContainer, duration: float) -> bool:
    """Whether the file's clock restarts or jumps on the way: what FFmpeg says of its length is not what was indexed.

    `duration`: seconds, of the index; 0 where it is not known.
    """
    if not duration or not container.format.flags & Flags.ts_discont.value:
        return False
    return abs((container.duration or 0) / av.time_base - duration) > _OFF


def packets_from(
    container: av.container.InputContainer,
    tracks: list,
    zero: float,
    second: float,
    duration: float,
    check: Callable[[], None],
) -> Iterator[av.Packet]:
    """Packets of some tracks from the key frame before a second on; their clock goes on where the file's restarts.

    Where it does, there is nothing to seek by: all that lies before is read, as it was for the index, and kept from the
    last key frame on. `zero`, `duration`: as `go_to` and `is_restarting` take them. `check`
    is called again and again, and may raise what ends it.
    """
    if not is_restarting(container, duration):
        if second > 0:
            go_to(container, zero, second)
        yield from container.demux(tracks)
        return
    chosen, kept, begun = {track.index for track in tracks}, [], second <= 0
    for packet in clock.packets(container):
        check()
        if packet.stream.index not in chosen:
            continue
        if not begun:
            if packet.stream.index == tracks[0].index and packet.is_keyframe:
                kept = []
            kept.append(packet)
            if packet.dts is None or packet.dts * packet.time_base - zero < second:
                if len(kept) > _MOST_KEPT:
                    kept = kept[_MOST_KEPT // 2 :]
                continue
            begun = True
            yield from kept
            continue
        yield packet
    if not begun:  # the second lies behind the end: its last pictures are the nearest
        yield from kept


def from_second(path: str, second: float, duration: float = 0.0) -> Iterator[tuple[float, av.VideoFrame, float]]:
    """(second, picture, width of its pixels by their height), from the key frame before `second` on.

    Raises MediaError.
    """
    with open_media(path) as container:
        stream = picture_track(container, path)
        zero, at, deadline = clock.picture_start(container, path), 0.0, time.monotonic() + _PATIENCE

        def check() -> None:
            if not at and time.monotonic() > deadline:
                raise MediaError(f"{path}: it takes too long to come to {second:.2f} s")

        for packet in packets_from(container, [stream], zero, second, duration, check):
            for frame in packet.decode():
                if isinstance(frame, av.VideoFrame):
                    at = frame.time - zero if frame.time is not None else at
                    yield at, frame, float(stream.sample_aspect_ratio or 1)
        with contextlib.suppress(av.error.EOFError):
            for frame in stream.codec_context.decode(None):
                at = frame.time - zero if frame.time is not None else at
                yield at, frame, float(stream.sample_aspect_ratio or 1)


def thumbnail(path: str, second: float, duration: float = 0.0) -> bytes:
    """JPEG of the picture that is seen at a second. `duration`: as `is_restarting` takes it. Raises MediaError."""
    chosen, begin = None, time.monotonic()
    for at, frame, aspect in from_second(path, second, duration):
        if chosen is None or at <= second + 1e-3:
            chosen = frame, aspect
        if at >= second or time.monotonic() - begin > _PATIENCE:
            break
    if chosen is None:
        raise MediaError(f"{path}: no picture at {second:.2f} s")
    picture = Image.fromarray(small(chosen[0], VideoReformatter(), chosen[1], _SIDE))
    written = io.BytesIO()
    picture.save(written, "JPEG", quality=_QUALITY)
    return written.getvalue()
