"""Opens one media file with all of its tracks, and reads its packets.

FLV, MPEG-PS and MPEG-TS keep no list of their tracks: FFmpeg knows those that begin within the first 5 MB. Where sound
or pictures are missing there, more of the file is looked through.

A file of another's making may be a playlist under a name such as clip.mp4, and ask FFmpeg to read other files or to
call a server. Only containers and streams that hold their own content are opened, and nothing but files.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import BinaryIO

import av
import av.container
import av.error

_LATE = ("flv", "mpeg", "mpegts")  # FFmpeg's names of formats that keep no list of tracks
_PROBED = 5_000_000  # bytes, FFmpeg's own limit
_MOST = 2**28  # bytes; FFmpeg holds in memory what it looks through
_MARGIN = 2**20
_FOREVER = str(10**12)  # microseconds
# FFmpeg's names. Not among them: playlists (HLS, DASH, concat, SDP, RTSP), numbered pictures, devices, filter graphs.
# Text formats are there for subtitles within AVI.
_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,asf,flv,live_flv,kux,mpeg,mpegts,ogg,mxf,gxf,nut,nuv,rm,wtv,dv,ivf"
)
_CONTAINERS += ",h261,h263,h264,hevc,vvc,av1,obu,m4v,mpegvideo,mjpeg,vc1,cavsvideo,dirac,dnxhd,yuv4mpegpipe,gif,apng"
_CONTAINERS += ",wav,w64,aiff,caf,au,voc,iff,sox,mp3,flac,aac,loas,ac3,eac3,dts,dtshd,truehd,mlp,amr,amrnb,amrwb,ape,wv"
_CONTAINERS += ",tta,tak,mpc,mpc8,shn,dsf,qcp,oma,xwma,srt,ass,webvtt"
_OWN = {"protocol_whitelist": "file", "format_whitelist": _CONTAINERS}
_FLV_KINDS = {8: "audio", 9: "video"}  # type of a tag → kind of its track


class MediaError(ValueError):
    """A media file cannot be used; the message says why. It costs its clip, not the build."""


@contextlib.contextmanager
def open_media(path: str) -> Iterator[av.container.InputContainer]:
    """An open container; MediaError where the file is missing, empty, no media file, or cannot be read on."""
    if os.path.isfile(path) and not os.path.getsize(path):
        raise MediaError(f"{path}: an empty file (0 bytes)")
    container = _open(path, {})
    if probe := _to_look_through(path, container):
        container.close()
        container = _open(path, {"probesize": str(probe), "analyzeduration": _FOREVER})
    with container:
        try:
            yield container
        except av.error.FFmpegError as error:
            raise MediaError(f"{path}: reading stops ({error.strerror})") from error


def packets(container: av.container.InputContainer) -> Iterator[av.Packet]:
    """All packets of all tracks, in the file's order; those that flush decoders have no size."""
    # PyAV does not know a track that begins after what FFmpeg looked through: it passes over its packets, and stumbles
    # when all have been read.
    with contextlib.suppress(IndexError):
        yield from container.demux()


def _open(path: str, options: dict[str, str]) -> av.container.InputContainer:
    try:
        return av.open(path, metadata_errors="replace", options=_OWN | options)
    except FileNotFoundError as error:
        raise MediaError(f"{path}: no such file") from error
    except (av.error.FFmpegError, OSError) as error:
        raise MediaError(f"{path}: not a readable media file, or cut short ({error.strerror})") from error


def _to_look_through(path: str, container: av.container.InputContainer) -> int:
    """Bytes in which FFmpeg finds what it misses; 0 where it misses nothing.

    Raises MediaError for a track that begins too late for that.
    """
    name, size = container.format.name, container.size
    missing = {"audio": not container.streams.audio, "video": not container.streams.video}
    if name not in _LATE or size <= _PROBED or not any(missing.values()):
        return 0
    if name != "flv":
        return min(size, _MOST)
    late = {kind: at for kind, at in _first_tags(path).items() if missing[kind]}
    for kind, at in late.items():
        if at > _MOST:
            raise MediaError(
                f"{path}: its {kind} begins after {at / 1e6:.0f} MB, further than is looked ({_MOST / 1e6:.0f} MB); "
                "write it anew: ffmpeg -probesize 2G -analyzeduration 2G -i FILE -c copy FILE.mkv"
            )
    return max(late.values(), default=0) and max(late.values()) + _MARGIN


def _first_tags(path: str) -> dict[str, int]:
    """Kind of track → place of its first tag in an FLV file."""
    found: dict[str, int] = {}
    with open(path, "rb") as file:
        for kind, at, _ in flv_tags(file):
            if kind in _FLV_KINDS:
                found.setdefault(_FLV_KINDS[kind], at)
            if len(found) == len(_FLV_KINDS):
                break
    return found


def flv_tags(file: BinaryIO) -> Iterator[tuple[int, int, int]]:
    """Type, begin and end of each tag of an FLV file; that of the last one may lie beyond the file's end."""
    at = int.from_bytes(file.read(9)[5:9]) + 4
    while True:
        file.seek(at)
        if len(head := file.read(11)) < 4:
            return
        end = at + 11 + int.from_bytes(head[1:4])
        yield head[0] & 31, at, end
        at = end + 4
