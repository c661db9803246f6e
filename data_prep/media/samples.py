"""The sound of one media file as mono samples, on the clock of its pictures (`clock`).

Sample 0 is heard with the first picture. Where sound begins later, or stops in between, there is silence; where it
begins earlier, sample 0 is its begin (`begin`). Which of several tracks is heard says `tracks`.
"""

import itertools
from collections.abc import Iterator

import av
import av.container
import av.error
import numpy as np

from data_prep.media import clock, tracks
from data_prep.media.opening import open_media
from data_prep.media.tracks import Tell, TrackError

_LOUDEST = 1e4  # full scale is 1; a float track may hold anything, and one NaN or 1e30 spoils the whole spectrogram
_LONGEST_GAP = 3600.0  # seconds; a longer silence is an untrue time stamp
# FFmpeg's own downmix knows these, and leaves out the others without a word.
_MIXED = {"FL", "FR", "FC", "LFE", "BL", "BR", "FLC", "FRC", "BC", "SL", "SR"}
_PAIRS = (("FL", "FR"), ("BL", "BR"), ("FLC", "FRC"), ("SL", "SR"))


def pieces(path: str, sample_rate: int, tell: Tell = tracks.silent) -> Iterator[np.ndarray]:
    """float32 [≤ sample_rate] parts of the track, one after the other; none without sound.

    Raises MediaError where the file cannot be opened, no sound track of it decodes, or one holds what cannot be sound.
    `tell` hears of a choice that the file did not make itself.
    """
    passed: dict[int, str] = {}
    while True:
        given = False
        with open_media(path) as container:
            track = tracks.best(container, path, "audio", passed)
            if track is None:
                return
            assert isinstance(track, av.AudioStream)
            try:
                for piece in _of_track(container, track, path, sample_rate, tell):
                    given = True
                    yield piece
                if not given and tracks.others(container, track, passed):
                    raise TrackError(path, track.index, "empty")
            except TrackError as error:
                if given or not tracks.others(container, track, passed):
                    raise
                passed[track.index] = error.problem
                continue
            if choice := tracks.remark(container, track, passed):
                tell(choice)
            return


def begin(path: str) -> float:
    """Seconds of the pictures' clock at which the sound begins: below 0, sample 0 is there; above, silence goes before.

    0 without sound, and within what encoders delay. Raises MediaError as `pieces` does.
    """
    with open_media(path) as container:
        track = tracks.best(container, path, "audio")
        if track is None:
            return 0.0
        return clock.settled(clock.track_start(track, path) - clock.picture_start(container, path))


def promised_seconds(path: str) -> float | None:
    """How long the file is by its header, for progress alone: headers may be wrong. None where it does not say."""
    with open_media(path) as container:
        return container.duration / av.time_base if container.duration else None


def _of_track(
    container: av.container.InputContainer, track: av.AudioStream, path: str, sample_rate: int, tell: Tell
) -> Iterator[np.ndarray]:
    codec, unit, zero = track.codec_context, float(track.time_base or 1), clock.picture_start(container, path)
    resampler, made_for, count, reason = None, None, 0, ""
    origin, done, given = None, 0.0, 0  # seconds of sample 0; seconds decoded; samples given
    told = tracks.silent if container.streams.video else tell  # else those who read the pictures tell
    own = (packet for packet in clock.packets(container, told) if packet.stream.index == track.index and packet.size)
    for packet in itertools.chain(own, [None]):
        count += packet is not None
        try:
            frames = codec.decode(packet)
        except av.error.FFmpegError as error:  # a bad packet is a short gap in the sound
            reason = str(error.strerror)
            continue
        for frame in frames:
            at = done if frame.pts is None else frame.pts * unit - zero
            if origin is None:
                origin = done = at if at <= clock.SLACK else 0.0
            source, parts, silence = (frame.format.name, frame.layout.name, frame.sample_rate), [], 0
            if at - done > _LONGEST_GAP:
                tell(f"its time stamps jump by {at - done:.0f} s at {done:.1f} s; it goes on without a pause")
                zero, at = zero + at - done, done
            if at - done > clock.SLACK:
                parts, resampler, done = resampler.resample(None) if resampler else [], None, at
                silence = round((at - origin) * sample_rate) - given - sum(part.samples for part in parts)
            if resampler is None or source != made_for:  # AAC may turn from mono to stereo after its first frames
                if not 1_000 <= frame.sample_rate <= 768_000:  # a damaged header: resampling would take hours
                    raise TrackError(path, track.index, f"its sound claims {frame.sample_rate} samples a second")
                parts += resampler.resample(None) if resampler else []
                # FFmpeg weights channels by √½ between mono and stereo in either direction. One channel therefore
                # stays one, more become two, and the mean is taken here: equal content gives equal loudness.
                layout = "stereo" if _is_mixed(frame.layout) else "mono"
                # Of more than two it lets the sum of all weights grow beyond 1, but not where it writes integers.
                options = {"rematrix_maxval": "1"} if frame.layout.nb_channels > 2 else {}
                # Frames of a second instead of the codec's 20 ms halve the time of everything after the decoder.
                resampler, made_for = av.AudioResampler("fltp", layout, sample_rate, sample_rate, options), source
            for part in parts:
                given += part.samples
                yield _mono(part, path, track.index)
            while silence > 0:
                given += min(silence, sample_rate)
                yield np.zeros(min(silence, sample_rate), np.float32)
                silence -= sample_rate
            done += frame.samples / frame.sample_rate
            many = frame.layout.nb_channels > 1 and not _is_mixed(frame.layout)
            for part in resampler.resample(_mean(frame) if many else frame):
                given += part.samples
                yield _mono(part, path, track.index)
    for part in resampler.resample(None) if resampler else ():
        given += part.samples
        yield _mono(part, path, track.index)
    if not given and reason:
        problem = f"none of the sound track's {count} packets can be decoded ({reason})"
        raise TrackError(path, track.index, problem)


def _is_mixed(layout: av.AudioLayout) -> bool:
    """Whether FFmpeg mixes all channels of a layout to stereo. Where a file names none it guesses: 5.1 and 7.1 are
    usual, the others are as likely microphones."""
    if layout.name == f"{layout.nb_channels} channels":
        return layout.nb_channels in (2, 6, 8)
    names = {channel.name for channel in layout.channels}
    paired = all((left in names) == (right in names) for left, right in _PAIRS)
    return len(names) > 1 and names <= _MIXED and paired and ("FL" in names or "FC" in names)


def _mean(frame: av.AudioFrame) -> av.AudioFrame:
    """A mono frame of a layout that nobody knows: the mean of all channels. Of ambisonics the first one is the whole
    sound, the others are directions."""
    planes, channels = frame.to_ndarray(), frame.layout.nb_channels
    if not frame.format.is_planar:
        planes = planes.reshape(-1, channels).T
    if planes.dtype.kind == "u":
        planes = planes.astype(np.float32) / 128 - 1
    elif planes.dtype.kind == "i":
        planes = planes / np.float32(2 ** (8 * planes.itemsize - 1))
    mono = planes[:1] if frame.layout.name.startswith("ambisonic") else planes.mean(axis=0, keepdims=True)
    made = av.AudioFrame.from_ndarray(np.ascontiguousarray(mono, np.float32), "fltp", "mono")
    made.sample_rate, made.pts = frame.sample_rate, frame.pts
    if frame.time_base is not None:  # frames that come at the end lack it
        made.time_base = frame.time_base
    return made


def _mono(frame: av.AudioFrame, path: str, track: int) -> np.ndarray:
    """Planar float32 [channels, samples] → [samples]. Raises TrackError where they cannot be sound."""
    planes = frame.to_ndarray()
    loudest = np.abs(planes).max(initial=0)
    if not loudest <= _LOUDEST:  # NaN compares as False
        problem = f"its sound holds a sample of {loudest:.3g}, where 1 is full scale: damaged"
        raise TrackError(path, track, problem)
    return planes.mean(axis=0)
