"""Pictures of a file from a second on, and one of them as a thumbnail.

Little of a file is read for it: decoding begins at the key frame before, and never goes on for long.
"""

import io
import time
from collections.abc import Iterator

import av
import av.container
from av.video.reformatter import VideoReformatter
from PIL import Image

from data_prep.media import clock, tracks, video
from data_prep.media.opening import MediaError, open_media

MOST_PIXELS = 2**27  # of a picture; a header may promise any number, and memory is taken for them
_SIDE = 480  # of a thumbnail
_QUALITY = 80
# FFmpeg knows no key frames of these, and may come out behind the one that is looked for.
_UNLISTED, _EARLIER = ("mpegts", "mpeg"), 5.0
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


def from_second(path: str, second: float) -> Iterator[tuple[float, av.VideoFrame, float]]:
    """(second, picture, width of its pixels by their height), from the key frame before `second` on.

    Raises MediaError.
    """
    with open_media(path) as container:
        stream = picture_track(container, path)
        zero, at = clock.picture_start(container, path), 0.0
        if second > 0:
            go_to(container, zero, second)
        for frame in container.decode(stream):
            at = frame.time - zero if frame.time is not None else at
            yield at, frame, float(stream.sample_aspect_ratio or 1)


def thumbnail(path: str, second: float) -> bytes:
    """JPEG of the picture that is seen at a second. Raises MediaError."""
    chosen, begin = None, time.monotonic()
    for at, frame, aspect in from_second(path, second):
        if chosen is None or at <= second + 1e-3:
            chosen = frame, aspect
        if at >= second or time.monotonic() - begin > _PATIENCE:
            break
    if chosen is None:
        raise MediaError(f"{path}: no picture at {second:g} s")
    picture = Image.fromarray(video.upright(chosen[0], VideoReformatter(), chosen[1]))
    picture.thumbnail((_SIDE, _SIDE))
    written = io.BytesIO()
    picture.save(written, "JPEG", quality=_QUALITY)
    return written.getvalue()
