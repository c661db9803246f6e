"""Moments for other programs: CSV, an edit decision list, OpenTimelineIO, and clips cut out of the files."""

import csv
import os
from collections.abc import Sequence
from fractions import Fraction

import av
from av.stream import Disposition

from data_prep.media import clock
from data_prep.media.opening import open_media
from data_prep.names import as_text, short
from save_jax.data.command_line import visible
from save_jax.search.library import Moment

FORMATS = (".csv", ".edl", ".otio")
_APART = 10  # seconds that the tracks of a file may lie apart in it
_RATE = 25  # of time codes, where a list has one rate for all files


def check(path: str) -> None:
    """Raises ValueError for a suffix that is not known, and a folder that is not there."""
    if os.path.splitext(path)[1].lower() not in FORMATS:
        raise ValueError(f"{path}: moments are written as {', '.join(FORMATS)}")
    if not os.path.isdir(os.path.dirname(path) or "."):
        raise ValueError(f"{path}: its folder is not there; make it first")


def write(path: str, hits: Sequence[Moment], title: str) -> None:
    """Writes by the suffix. Raises ValueError as `check` does."""
    check(path)
    suffix = os.path.splitext(path)[1].lower()
    if suffix == ".csv":
        _csv(path, hits)
    elif suffix == ".edl":
        with open(path, "w", encoding="utf-8", newline="\n") as file:
            file.write(edl(hits, title))
    else:
        _otio(path, hits, title)


def _csv(path: str, hits: Sequence[Moment]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("file", "start", "end", "best", "score", "words"))
        writer.writerows((as_text(hit.file), hit.start, hit.end, hit.best, hit.score, hit.words) for hit in hits)


def edl(hits: Sequence[Moment], title: str) -> str:
    """A CMX 3600 list at 25 frames a second: each moment once, one after the other."""
    lines, at = [f"TITLE: {visible(' '.join(title.split()))[:70]}", "FCM: NON-DROP FRAME"], 0
    for number, hit in enumerate(hits, 1):
        start, end = round(hit.start * _RATE), round(hit.end * _RATE)
        codes = map(_code, (start, end, at, at + end - start))  # both spans have the same frames
        lines += [f"{number:03d}  AX       V     C        {' '.join(codes)}"]
        lines += [f"* FROM CLIP NAME: {visible(os.path.basename(hit.file))}", f"* SOURCE FILE: {visible(hit.file)}"]
        at += end - start
    return "\n".join(lines) + "\n"


def _code(frames: int) -> str:
    seconds, part = divmod(frames, _RATE)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}:{part:02d}"


def _otio(path: str, hits: Sequence[Moment], title: str) -> None:
    try:
        import opentimelineio as otio
    except ImportError as error:
        raise ValueError("writing .otio needs opentimelineio: pip install 'save_jax[search]'") from error
    from opentimelineio.opentime import RationalTime, TimeRange

    timeline = otio.schema.Timeline(name=title)
    track = otio.schema.Track(kind=otio.schema.TrackKind.Video)
    for hit in hits:
        span = TimeRange(RationalTime(hit.start * 1000, 1000), RationalTime((hit.end - hit.start) * 1000, 1000))
        media = otio.schema.ExternalReference(target_url=otio.url_utils.url_from_filepath(as_text(hit.file)))
        track.append(
            otio.schema.Clip(name=as_text(os.path.basename(hit.file)), media_reference=media, source_range=span)
        )
    timeline.tracks.append(track)
    otio.adapters.write_to_file(timeline, path)


def cut(hit: Moment, number: int, folder: str) -> str:
    """A moment as a file of its own, without encoding anew: it begins at the key frame before. Returns its path.

    `number`: its place in the answer, for the name. Raises MediaError for a file that cannot be read, and ValueError
    where nothing of a moment can be written.
    """
    os.makedirs(folder, exist_ok=True)
    stem = os.path.splitext(os.path.basename(hit.file))[0]
    path = os.path.join(folder, short(f"{number:02d}-{stem}-{hit.start:.0f}s", ".mkv"))
    _copy(hit, path)
    return path


def _copy(hit: Moment, path: str) -> None:
    with open_media(hit.file) as source, av.open(path, "w", format="matroska") as target:
        streams = [
            stream
            for stream in source.streams
            if stream.type in ("video", "audio") and Disposition.attached_pic not in stream.disposition
        ]
        going = {stream.index for stream in streams}
        copies = {stream.index: target.add_stream_from_template(stream) for stream in streams}
        zero = Fraction(clock.picture_start(source, hit.file))
        source.seek(int((zero + Fraction(hit.start)) * av.time_base), backward=True)
        first: Fraction | None = None
        for packet in source.demux(streams):
            if packet.dts is None or packet.pts is None or packet.time_base is None:
                continue
            at = packet.dts * packet.time_base - zero
            if at >= hit.end:
                going.discard(packet.stream.index)
            if not going or at >= hit.end + _APART:
                break
            if packet.stream.index not in going:
                continue
            if first is None:
                first = Fraction(packet.dts * packet.time_base)
            shift = round(first / packet.time_base)
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            packet.stream = copies[packet.stream.index]
            target.mux(packet)
    if first is None:
        raise ValueError(f"{hit.file}: nothing lies at {hit.start:.1f} s")
