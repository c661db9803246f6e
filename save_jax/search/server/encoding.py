"""A stretch of any media file as a small H.264/AAC MP4."""

import contextlib
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import av
import av.error
import numpy as np
from av.video.reformatter import VideoReformatter

from data_prep.media import clock, tracks
from data_prep.media.opening import MediaError, open_media
from save_jax.search.server.pictures import packets_from, picture_track, small

SIDE = 640
_RATE, _FASTEST = 48000, 30  # of sound; of pictures
_OPTIONS = {"preset": "veryfast", "crf": "26", "maxrate": "2M", "bufsize": "4M"}
_UNIT = Fraction(1, 90000)  # of the pictures' times
_APART = 2.0  # seconds that tracks of a file may lie apart in it
_GAP = 0.1  # seconds without sound that are silence, and no rounding
PATIENCE = 120.0  # seconds


class TooSlow(MediaError):
    """A film is not made within `PATIENCE`."""


def encode(
    path: str, target: str, start: float, end: float, stopped: Callable[[], bool], duration: float = 0.0
) -> None:
    """Writes the film between two seconds of a file; its clock begins with `start`.

    `duration`: seconds of the file as it was indexed, which tells where its clock restarts on the way.

    Raises MediaError where nothing can be shown, OSError where it cannot be written, and InterruptedError once
    `stopped()`.
    """
    with contextlib.closing(_Film(target)) as film, open_media(path) as source:
        picture = picture_track(source, path)
        try:
            sound = tracks.best(source, path, "audio")
        except MediaError:  # one that nothing decodes: the pictures are worth showing
            sound = None
        zero, deadline = clock.picture_start(source, path), time.monotonic() + PATIENCE
        heard = _Sound(film) if isinstance(sound, av.AudioStream) else None
        seen = _Pictures(film, picture, zero + start)
        wanted = [picture, sound] if heard and sound else [picture]

        def check() -> None:
            if stopped():
                raise InterruptedError
            if time.monotonic() > deadline:
                raise TooSlow(f"{path}: it takes too long to decode")

        for packet in packets_from(source, wanted, zero, start, duration, check):
            check()
            if packet.dts is not None and packet.time_base and packet.dts * packet.time_base - zero > end + _APART:
                break
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:  # a damaged packet costs its own frames
                continue
            for frame in frames:
                if isinstance(frame, av.VideoFrame):
                    seen.add(frame, end - start)
                elif isinstance(frame, av.AudioFrame) and heard and frame.time is not None:
                    heard.add(frame, frame.time - zero - start, end - start)
        seen.end()
        if heard:
            heard.end()


class _Film:
    """The file that is written. What fails here is an OSError, and none of reading."""

    def __init__(self, target: str):
        with self._writing():
            self._file = av.open(target, "w", format="mp4", options={"movflags": "faststart"})
        self._waiting: list[av.Packet] = []
        self.complete = False  # all streams are known: the file's head is written with the first packet

    def add(self, codec: str, rate: int, **given) -> Any:
        """A new stream."""
        return self._file.add_stream(codec, rate=rate, **given)

    def mux(self, packets: list[av.Packet]) -> None:
        self._waiting += packets
        if self.complete:
            with self._writing():
                self._file.mux(self._waiting)
            self._waiting.clear()

    def close(self) -> None:
        with self._writing():
            self._file.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except av.error.FFmpegError as error:
            raise OSError(error.errno, error.strerror) from error


class _Pictures:
    """The film's pictures: the one that stands at its begin, and those that follow."""

    def __init__(self, film: _Film, source: av.VideoStream, zero: float):
        """`zero`: the file's own clock at the film's begin."""
        self._film, self._zero, self._convert = film, zero, VideoReformatter()
        self._fit = VideoReformatter()  # one for each conversion: it is set up once
        self._step, self._at = 1 / float(source.guessed_rate or _FASTEST), 0.0
        self._aspect = float(source.sample_aspect_ratio or 1)
        self._before: av.VideoFrame | None = None
        self._last = -1.0
        self._stream: Any = None
        self._name = source.codec_context.name

    def add(self, frame: av.VideoFrame, length: float) -> None:
        at = self._at = self._at + self._step if frame.time is None else frame.time - self._zero
        if at <= 0:
            self._before = frame
            return
        self._show_before()
        if at < length and at - self._last >= 0.9 / _FASTEST:
            self._write(frame, at)

    def end(self) -> None:
        self._show_before()
        if self._stream is None:
            raise MediaError(f"no picture of this stretch can be decoded ({self._name})")
        self._film.mux(self._stream.encode(None))

    def _show_before(self) -> None:
        if self._before is not None:
            self._write(self._before, 0.0)
            self._before = None

    def _write(self, frame: av.VideoFrame, at: float) -> None:
        image = small(frame, self._convert, self._aspect, SIDE)
        if self._stream is None:
            self._stream = self._film.add("libx264", _FASTEST, options=_OPTIONS)
            self._stream.height, self._stream.width = (max(2, side // 2 * 2) for side in image.shape[:2])
            self._stream.pix_fmt, self._stream.codec_context.time_base = "yuv420p", _UNIT
            self._stream.codec_context.thread_count = 2
            self._film.complete = True
        made = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb24")
        made = self._fit.reformat(made, self._stream.width, self._stream.height, "yuv420p", threads=1)
        made.pts, made.time_base = round(at / _UNIT), _UNIT
        self._film.mux(self._stream.encode(made))
        self._last = at


class _Sound:
    """The film's sound: stereo, without gaps."""

    def __init__(self, film: _Film):
        self._film = film
        self._stream = film.add("aac", _RATE, layout="stereo")
        self._resample = av.AudioResampler("fltp", "stereo", _RATE)
        self._written = 0  # samples

    def add(self, frame: av.AudioFrame, at: float, length: float) -> None:
        """`at`: the second of the film at which it begins."""
        first = round(at * _RATE)
        for part in self._resample.resample(frame):
            samples = part.to_ndarray()
            first += self._place(samples, first, round(length * _RATE))

    def _place(self, samples: np.ndarray, first: int, most: int) -> int:
        count = samples.shape[1]
        if first - self._written > _GAP * _RATE:
            self._write(np.zeros((2, min(first, most) - self._written), np.float32))
        late = self._written - first if first < 0 or self._written - first > _GAP * _RATE else 0
        self._write(samples[:, late : late + max(0, most - self._written)])
        return count

    def end(self) -> None:
        self._film.mux(self._stream.encode(None))

    def _write(self, samples: np.ndarray) -> None:
        if samples.shape[1]:
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples, np.float32), "fltp", "stereo")
            frame.sample_rate, frame.pts, frame.time_base = _RATE, self._written, Fraction(1, _RATE)
            self._written += samples.shape[1]
            self._film.mux(self._stream.encode(frame))
