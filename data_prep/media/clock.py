"""The one clock of a file: frames, sound and subtitles count their seconds from the first picture.

Frames have always counted so: shards, and the reference, know no other begin. What is said has to match them. A file's
own clock may begin anywhere, its sound later or earlier than its picture, and it may restart within a file: MPEG-TS of
parts that were joined. What lies before the first picture has times below 0. Without pictures, the file's begin counts.
"""

import dataclasses
from collections.abc import Iterator

import av
import av.container
from av.format import Flags
from av.stream import Stream

from data_prep.media import opening, tracks
from data_prep.media.opening import MediaError, open_media
from data_prep.media.tracks import Tell

SLACK = 0.1  # seconds; what encoders delay is below it, and is no offset
_BACK = 0.5  # decoding times never go back: where they do by more than this, the clock restarted
_FORWARD = 10.0  # ahead of all tracks, in formats whose clock may jump; FFmpeg's own limit
_FAR = 60.0  # seconds
_MEDIA = ("video", "audio")
_LOOKED = 64  # packets of a track among which the first picture is, in whatever order they are stored


def packets(container: av.container.InputContainer, tell: Tell = tracks.silent) -> Iterator[av.Packet]:
    """All packets of all tracks, in the file's order; their time stamps go on where the file's clock restarts or jumps.

    What comes after a restart follows the furthest end of what came before. Pictures and sound keep their distance.
    `tell` hears of it at the end.
    """
    timeline = _Timeline(container)
    for packet in opening.packets(container):
        yield timeline.retime(packet)
    if timeline.restarts:
        tell(f"its clock restarts or jumps, {timeline.restarts} times; here it goes on")


@dataclasses.dataclass
class _Place:
    """Where a track is: which stretch of the file, its last decoding time, and its shift and end in its own unit."""

    stretch: int
    shift: int
    last: float | None = None
    end: int | None = None


class _Timeline:
    """Moves time stamps. It must see all packets, in the file's order."""

    def __init__(self, container: av.container.InputContainer):
        self._jumps = bool(container.format.flags & Flags.ts_discont.value)
        self._wraps = container.format.name in ("mpegts", "mpeg")
        self._shifts = [0.0]  # seconds, of each stretch between two restarts
        self._furthest = [-float("inf")]  # seconds of the file's clock, of each stretch
        self._end = 0.0  # seconds of our clock
        self._places: dict[int, _Place] = {}

    @property
    def restarts(self) -> int:
        return len(self._shifts) - 1

    def retime(self, packet: av.Packet) -> av.Packet:
        """The same packet, its time stamps moved where need be."""
        unit = float(packet.stream.time_base or 1)
        stamp = packet.dts if packet.pts is None else packet.pts
        if stamp is None:
            return packet
        place = self._places.get(packet.stream.index)
        if place is None:
            place = _Place(self.restarts, round(self._shifts[-1] / unit))
            self._places[packet.stream.index] = place
        if turn := self._turn(place, stamp * unit, unit):
            packet.pts = None if packet.pts is None else packet.pts + turn
            packet.dts = None if packet.dts is None else packet.dts + turn
            stamp += turn
        if packet.dts is not None and packet.stream.type in _MEDIA:
            now = packet.dts * unit
            if place.last is not None and self._restarted(place, now):
                self._go_on(place, stamp, unit)
            place.last = now
            self._furthest[place.stretch] = max(self._furthest[place.stretch], now)
        if place.shift:
            packet.pts = None if packet.pts is None else packet.pts + place.shift
            packet.dts = None if packet.dts is None else packet.dts + place.shift
        end = stamp + place.shift + (packet.duration or 0)
        place.end = end if place.end is None else max(place.end, end)
        self._end = max(self._end, place.end * unit)
        return packet

    def _turn(self, place: _Place, now: float, unit: float) -> int:
        """What brings a stamp of a clock of 33 bits nearest to the one before, in the track's unit."""
        before = self._furthest[-1] if place.last is None else place.last
        if not self._wraps or before == -float("inf"):
            return 0
        return round((before - now) / unit / 2**33) * 2**33

    def _restarted(self, place: _Place, now: float) -> bool:
        ahead = self._jumps and now > self._furthest[place.stretch] + _FORWARD
        return ahead or now < place.last - _BACK  # pyright: ignore[reportOptionalOperand]

    def _go_on(self, place: _Place, stamp: int, unit: float) -> None:
        """Takes a track to the next stretch; the first track to come there settles where it begins."""
        place.stretch += 1
        if place.stretch == len(self._shifts):
            self._shifts.append(self._end - stamp * unit)
            self._furthest.append(-float("inf"))
        least = stamp if place.end is None else place.end - stamp  # two frames must not have one time
        place.shift = max(round(self._shifts[place.stretch] / unit), least)


def picture_start(container: av.container.InputContainer, path: str) -> float:
    """Seconds of the file's own clock at which ours reads 0."""
    try:
        picture = tracks.best(container, path, "video")
    except MediaError:  # pictures that nothing can decode
        picture = None
    if picture is None:
        return file_start(container)
    return track_start(picture, path)


def file_start(container: av.container.InputContainer) -> float:
    """Seconds of the file's own clock at its begin, where players count from."""
    return (container.start_time or 0) / av.time_base


def track_start(track: Stream, path: str) -> float:
    """Seconds of the file's own clock at a track's first frame."""
    if track.start_time is not None:
        said = float(track.start_time * (track.time_base or 0))
        if track.type != "video" or abs(said) <= SLACK:
            return said
    # FFmpeg does not know it, or guesses it of frames that are stored in another order than shown.
    stamps = []
    with open_media(path) as container:
        for packet in packets(container):
            own = packet.stream.index == track.index and packet.size and not packet.is_discard
            if own and packet.pts is not None:
                stamps.append(float(packet.pts * packet.time_base))
                if len(stamps) == _LOOKED:
                    break
        return min(stamps, default=file_start(container))


def beside(path: str, first: float, last: float) -> float:
    """Seconds to add to the times of a file that lies beside this one, such as its subtitles.

    They count from the file's begin, as players show it; or by the file's own clock, where that begins later than a
    minute and `first` and `last`, its times, only fit there.
    """
    with open_media(path) as container:
        begin, zero, length = file_start(container), picture_start(container, path), (container.duration or 0) / 1e6
        if "matroska" in container.format.name:  # whose duration runs from 0
            length -= begin
    if first >= begin > _FAR and last > length:
        return -zero
    return settled(begin - zero)


def settled(offset: float) -> float:
    """An offset in seconds; 0 where it is what encoders delay."""
    return offset if abs(offset) > SLACK else 0.0
