"""Frames of one media file, decoded with PyAV: the times of all from its packets, and chosen ones with little decoding.

In: a path; out: the times of all frames, without decoding one, then the chosen frames. They are bit for bit those of
decoding the whole file in order. Decoding takes most of the time, so what is not needed is skipped where the codec
makes that exact: stretches between a wanted frame and the next key frame needed, frames that no other frame refers to,
and what follows the last wanted frame.

    with open_video(path) as file:
        for rank, frame in file.frames([0, 25, 50]): ...  # of file.times
"""

import array
import bisect
import collections
import contextlib
import dataclasses
import itertools
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import av
import av.container
import av.error
import numpy as np

from data_prep.media import clock, ending, tracks
from data_prep.media.opening import MediaError, open_media
from data_prep.media.tracks import Tell, TrackError

# A file counts as damaged when this share of it, and more than this many seconds, is missing: headers round durations,
# and a frame or two lost at the end of a web video is usual.
_LOSS_SHARE, _LOSS_SECONDS = 0.1, 1.0
_LOSS_BYTES = 0.01  # share; what lies at the end of a file may be no more than its index
# Codecs in which a key frame makes everything shown after it independent of everything decoded before it. H.264 is one
# at IDR pictures only (`_is_idr`): decoders that begin at its other key frames have other lists of references.
_JUMPS = {"h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4", "vp8", "vp9", "av1", "prores", "mjpeg", "dnxhd", "ffv1"}
# Codecs whose decoder can leave out a frame that no other frame refers to, and says so in its header. Not HEVC, where
# such frames may serve a higher temporal layer, nor VP8 and VP9, where they pass segmentation maps on.
_SKIPS = {"h264", "mpeg1video", "mpeg2video", "mpeg4"}
_PROGRESSIVE = 1  # AVFieldOrder
_KEY, _SHOWN = 1, 2
_HELD = 2**25  # bytes of packets kept between finding their times and decoding; a larger file is read twice
_PACKET = 1000  # bytes that a packet takes beside its data
T = TypeVar("T")


# ---------------------------------------------------------------- what packets promise


@dataclasses.dataclass
class Video:
    """An open file: its frames in the order in which they are shown ("ranks"), and where their packets are."""

    path: str
    track: int  # index of the stream
    codec: av.VideoCodecContext
    fps: float | None  # what OpenCV reports as CAP_PROP_FPS
    aspect: float  # width of a pixel by its height
    times: np.ndarray  # float64 [frames] seconds, ascending
    _stamps: np.ndarray | None  # int64 [frames], times in the stream's unit; None where they do not identify a frame
    _unit: float  # seconds of a time stamp of 1
    _packets: np.ndarray  # int64 [frames], number of each frame's packet in the stream
    _keys: np.ndarray  # int64, ranks of the frames at which decoding may begin, ascending
    _held: list[av.Packet] | None  # all packets of the stream, unless they are too large

    def frames(self, ranks: Sequence[int]) -> Iterator[tuple[int, av.VideoFrame]]:
        """(rank, frame) for ascending ranks. In place of a frame that is lost comes the next one that decodes, once.

        Raises MediaError where nothing decodes, and where frames are lost and too much of the stream does not decode.
        """
        delivered = 0
        for rank, frame in self._hurried(ranks):
            yield rank, frame
            delivered += 1
        if delivered < len(ranks) or not len(ranks):
            yield from self._in_order(ranks[delivered:], given=ranks[delivered - 1] if delivered else -1)

    def _hurried(self, ranks: Sequence[int]) -> Iterator[tuple[int, av.VideoFrame]]:
        """The frames up to the first surprise (an error in the stream, a frame does not come), decoding little else.

        What decoders make up in place of damaged parts depends on what they saw before: that is left to `_in_order`.
        """
        if self._stamps is None or not len(ranks):
            return
        stamps, wanted = [*self._stamps[ranks].tolist(), np.inf], self._packets[ranks].tolist()
        starts = [*np.minimum.accumulate([self._start(rank) for rank in ranks][::-1])[::-1].tolist(), np.inf]
        # A frame is delivered when frames shown later that it may refer to have come as well, and none is corrupt.
        latest = np.full(self._packets.max() + 1, self._stamps[0])
        latest[self._packets] = self._stamps
        referred = np.maximum.accumulate(latest)[wanted].tolist()
        if self.codec.field_order != _PROGRESSIVE:  # a second field may have the packet after the first one's
            wanted += [number + 1 for number in wanted]
        whole, matched, given, begin, last, held = set(wanted), 0, 0, starts[0], -np.inf, collections.deque()
        with self._again({"err_detect": "explode"}) as (codec, packets):
            skips = codec.name in _SKIPS
            for number, packet in enumerate(packets):
                if begin > number and packet is not None:
                    continue
                if skips:
                    codec.skip_frame = "DEFAULT" if number in whole else "NONREF"
                try:
                    decoded = codec.decode(packet)
                    if decoded and decoded[-1].pts is not None:
                        begin = starts[bisect.bisect_right(stamps, decoded[-1].pts)]
                    if jumps := packet is not None and begin > number + 1:  # nothing wanted is still inside the decoder
                        decoded += codec.decode(None)
                except av.error.FFmpegError:
                    return
                for frame in decoded:
                    if frame.is_corrupt or frame.pts is None or not last < frame.pts <= stamps[matched]:
                        return
                    last = frame.pts
                    if frame.pts == stamps[matched]:
                        held.append(frame)
                        matched += 1
                while held and (jumps or packet is None or referred[given] <= last):
                    yield ranks[given], held.popleft()
                    given += 1
                if given == len(ranks):
                    return
                if jumps:
                    codec.flush_buffers()

    def _in_order(self, ranks: Sequence[int], given: int = -1) -> Iterator[tuple[int, av.VideoFrame]]:
        """The same from decoding everything: what a damaged file or an unusual stream needs. `given`: the last rank
        that was delivered already."""
        left, rank, frame = list(ranks), given, None
        count, errors, reason, number, last = 0, 0, "", 0, 0.0
        with self._again({}) as (codec, packets):
            for packet in packets:
                count += 1
                try:
                    decoded = codec.decode(packet)
                except av.error.FFmpegError as error:  # players skip a bad packet as well; the sum is judged below
                    errors, reason = errors + 1, str(error.strerror)
                    continue
                for frame in decoded:
                    rank = number
                    if self._stamps is not None and frame.pts is not None:
                        rank = int(np.searchsorted(self._stamps, frame.pts))
                    rank = min(rank, max(len(self.times) - 1, 0))
                    if left and rank >= left[0]:
                        given = rank
                        yield rank, frame
                        left = [later for later in left if later > rank]
                    number += 1
                    if frame.pts is not None:  # not `frame.time`: frames that come at the end lack the unit
                        last = max(last, frame.pts * self._unit)
        if not number:
            problem = f"no frame can be decoded ({reason or 'the video stream is empty'})"
            raise TrackError(self.path, self.track, problem)
        lost, length = (self.times[-1] - last, np.ptp(self.times)) if len(self.times) else (0.0, 0.0)
        if errors > _LOSS_SHARE * count or lost > max(_LOSS_SECONDS, _LOSS_SHARE * length):
            problem = (
                f"damaged: {errors} of {count} packets fail to decode, "
                f"the last frame is {max(lost, 0):.1f} s before the stream's end ({reason or 'no error reported'})"
            )
            raise TrackError(self.path, self.track, problem)
        if left and frame is not None and rank > given:  # the end is lost: the last frame there is stands for it
            yield rank, frame

    def _start(self, rank: int) -> int:
        """Number of the packet from which decoding must run to give frame `rank`."""
        packet = self._packets[rank]
        before = self._packets[self._keys[: np.searchsorted(self._keys, rank, "right")]]  # shown no later …
        return int(before[before <= packet].max(initial=0))  # … and decoded no later

    @contextlib.contextmanager
    def _again(self, options: Mapping[str, str]) -> Iterator[tuple[av.VideoCodecContext, Iterator[av.Packet | None]]]:
        """A decoder with these options at its beginning, and the stream's packets with the None that ends them."""
        if self._held is not None and not self.codec.is_open:
            self.codec.options = dict(options)
            yield self.codec, itertools.chain(self._held, [None])
            return
        with open_media(self.path) as container:  # a decoder keeps its options, and some of its state when flushed
            codec = container.streams[self.track].codec_context
            assert isinstance(codec, av.VideoCodecContext)
            codec.thread_count, codec.options = 1, dict(options)
            own = (packet for packet in clock.packets(container) if packet.stream_index == self.track and packet.size)
            yield codec, itertools.chain(own, [None])


def use_video(path: str, use: Callable[[Video], T], tell: Tell = tracks.silent) -> T:
    """What `use` makes of a file's pictures; of its next picture track where one turns out to be broken.

    Raises MediaError as `open_video` and `Video.frames` do. `tell` hears of a choice that the file did not make itself.
    """
    passed: dict[int, str] = {}
    while True:
        try:
            with open_video(path, passed, tell) as file:
                return use(file)
        except TrackError as error:
            passed[error.track] = error.problem


@contextlib.contextmanager
def open_video(path: str, passed: Mapping[int, str] = tracks.NONE, tell: Tell = tracks.silent) -> Iterator[Video]:
    """Opens a file and reads all its packets without decoding them; beyond 32 MiB, 9 bytes of each stay in memory.

    `passed`: as `tracks.best` has it. Raises MediaError where there is no video stream, or the file is cut short.
    """
    with open_media(path) as container:
        stream = picture_stream(container, path, passed)
        codec, extra = stream.codec_context, stream.codec_context.extradata
        if stream.time_base is None:
            raise MediaError(f"{path}: its video stream does not say what its time stamps mean")
        unit = float(stream.time_base)
        kind = {"libdav1d": "av1", "libvpx": "vp8", "libvpx-vp9": "vp9"}.get(codec.name, codec.name)
        # avcC; else H.264 comes as a byte stream
        prefix = (extra[4] & 3) + 1 if kind == "h264" and extra and len(extra) > 4 and extra[0] == 1 else 0
        picture, held, room = stream.index, [], _HELD
        stamps, flags = array.array("q"), array.array("b")
        # AVI has no presentation times; what FFmpeg makes up is in decoding order.
        timed = container.format.name != "avi"
        ends = [0] * len(container.streams)  # in each stream's own unit
        sizes, torn, read = [0] * len(container.streams), False, 0
        try:
            for packet in clock.packets(container, tell):
                stamp, here, size = packet.pts, packet.stream_index, packet.size
                if size:
                    sizes[here], torn = sizes[here] + 1, packet.is_corrupt
                    read = max(read, (packet.pos or 0) + size)
                timed = timed and (stamp is not None or here != picture or not size)
                stamp = packet.dts if stamp is None else stamp
                if stamp is not None and not packet.is_discard:
                    ends[here] = max(ends[here], stamp + (packet.duration or 0))
                if here != picture or not size:  # AVI has empty packets, which a decoder would take for the end
                    continue
                key = packet.is_keyframe and kind in _JUMPS and (kind != "h264" or _is_idr(packet, prefix))
                hidden = packet.is_discard or (kind == "vp8" and not memoryview(packet)[0] & 16)
                stamps.append(len(stamps) if stamp is None else stamp)
                flags.append(_KEY * key | _SHOWN * (not hidden))
                if room > 0:
                    held.append(packet)
                    room -= size + _PACKET
                elif held:
                    held = []
        except (av.error.FFmpegError, OSError) as error:
            end = _seconds(container, ends)
            raise MediaError(f"{path}: reading stops at {end:.1f} s ({error.strerror})") from error
        _must_be_whole(container, path, _seconds(container, ends), torn, read)
        others = tracks.others(container, stream, passed)
        if sizes[picture] < 2 <= max((sizes[other.index] for other in others), default=0):
            raise TrackError(path, picture, "one picture alone" if sizes[picture] else "empty")
        if choice := tracks.remark(container, stream, passed):
            tell(choice)
        stamps, flags = np.frombuffer(stamps, np.int64), np.frombuffer(flags, np.int8)
        shown = np.flatnonzero(flags & _SHOWN)
        packets = shown[np.argsort(stamps[shown], kind="stable")]
        stamps = stamps[packets]
        yield Video(
            path=path,
            track=picture,
            codec=codec,
            aspect=float(stream.sample_aspect_ratio or 1),
            fps=float(stream.guessed_rate) if stream.guessed_rate else None,
            times=stamps * unit,
            _stamps=stamps if timed and (np.diff(stamps) > 0).all() else None,
            _unit=unit,
            _packets=packets,
            _keys=np.flatnonzero(flags[packets] & _KEY),
            _held=held if room > 0 else None,
        )


def picture_stream(
    container: av.container.InputContainer, path: str, passed: Mapping[int, str] = tracks.NONE
) -> av.VideoStream:
    """The track of pictures to use, as `tracks.best` chooses it. Raises MediaError where there is none."""
    stream = tracks.best(container, path, "video", passed)
    if stream is None:
        raise MediaError(f"{path}: no video stream")
    assert isinstance(stream, av.VideoStream)
    stream.codec_context.thread_count = 1  # one process per core decodes already
    return stream


def _must_be_whole(container: av.container.InputContainer, path: str, end: float, torn: bool, read: int) -> None:
    """Raises MediaError for a file that was cut, if that costs more than a little.

    Its parts say whether it was cut: a duration that the data does not reach may as well be wrong. Where a format does
    not say how long its parts are, the last packet counts (`torn`: it is not whole). Reading may also end within a file
    (`read`: bytes up to the last packet's end), where it is damaged.
    """
    size, promised = os.path.getsize(path), ending.promised(container, path)
    stopped = read < (1 - _LOSS_SHARE) * size and "mp4" not in container.format.name  # there, an index knows the end
    if stopped or promised is None:
        promised = math.inf if stopped or torn else size
    if size > (1 - _LOSS_BYTES) * promised:
        return
    # Matroska's duration runs from 0, that of others from the first time stamp, which may be hours later.
    begins, said = clock.file_start(container), (container.duration or 0) / av.time_base
    said = said if "matroska" in container.format.name else begins + said
    close = said - end < _LOSS_SHARE * (end - begins) or container.format.name == "avi"
    if close and math.isfinite(promised):
        said = begins + (end - begins) * promised / size  # a header may be too short; FFmpeg shortens some itself
    if said - end > max(_LOSS_SECONDS, _LOSS_SHARE * (said - begins)):
        raise MediaError(f"{path}: cut short: it should last {said:.1f} s, its data ends at {end:.1f} s")


def _seconds(container: av.container.InputContainer, ends: list[int]) -> float:
    units = [stream.time_base for stream in container.streams]
    return max((float(end * unit) for end, unit in zip(ends, units, strict=False) if end and unit), default=0.0)


def _is_idr(packet: av.Packet, prefix: int) -> bool:
    """Whether an H.264 packet clears all references; in a byte stream, whether it also brings its parameters."""
    data, at = memoryview(packet), 0
    if not prefix:
        return bool(re.search(rb"\x00\x00\x01[\x25\x45\x65]", data) and re.search(rb"\x00\x00\x01[\x27\x47\x67]", data))
    while at + prefix < len(data):
        if data[at + prefix] & 31 == 5:
            return True
        at += prefix + int.from_bytes(data[at : at + prefix])
    return False
