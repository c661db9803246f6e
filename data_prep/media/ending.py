"""How many bytes a file should have by its own structure: what tells a cut file from one with an untrue header.

Headers also promise a duration. Recorders of still screens, live streams and repairs write wrong ones, so that a
duration alone proves nothing.
"""

import itertools
import math
import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

import av.container

from data_prep.media.opening import flv_tags

_SEGMENT = b"\x18\x53\x80\x67"  # of Matroska
_FLV_HEAD = 2**12  # bytes; what a file says of itself comes first
_ASF_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")


def promised(container: av.container.InputContainer, path: str) -> float | None:
    """Bytes that the parts of a file need; infinity: more than there are. None where its format, or this file, does not
    say. `container`: read to its end.
    """
    name, size = container.format.name, os.path.getsize(path)
    with open(path, "rb") as file:
        if "mp4" in name:
            ends = [entries[-1] for stream in container.streams if len(entries := stream.index_entries)]
            boxes = [at for kind, at in _boxes(file, size) if kind in (b"moov", b"moof")]
            return max([entry.pos + entry.size for entry in ends] + boxes, default=None)
        if "matroska" in name:
            return _matroska(file)
        if name == "avi":
            return max((at for _, at in _riffs(file, size)), default=None)
        if name == "asf":
            return max((at for _, at in _asf(file, size)), default=None)
        if name == "flv":
            return _flv(file, size)
    return None


def _boxes(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int]]:
    """Kind and end of each top-level box of an MP4 file."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        length = int.from_bytes(head[:4])
        if length == 1:
            length = int.from_bytes(head[8:16])
        if length < 8:  # 0: to the file's end
            return
        at += length
        yield head[4:8], at


def _flv(file: BinaryIO, size: int) -> float | None:
    """The size that the file's first tag states, if it does; else whether the last tag is whole."""
    head = file.read(_FLV_HEAD)
    file.seek(0)
    if (at := head.find(b"filesize\0")) > 0 and (stated := struct.unpack(">d", head[at + 9 : at + 17])[0]) > 0:
        return stated
    *_, (_, _, end) = itertools.chain([(0, 0, 0)], flv_tags(file))
    return math.inf if end > size else size


def _matroska(file: BinaryIO) -> int | None:
    """Where the segment ends."""
    _, length, start = _element(file, 0)  # the EBML header
    name, length, start = _element(file, start + (length or 0))
    return None if name != _SEGMENT or length is None else start + length


def _element(file: BinaryIO, at: int) -> tuple[bytes, int | None, int]:
    """Name of an element, its length (None: not known) and where its content begins."""
    file.seek(at)
    head = file.read(12) + bytes(12)
    width = 9 - max(head[0], 1).bit_length()
    digits = 9 - max(head[width], 1).bit_length()
    value = int.from_bytes(head[width : width + digits]) & ((1 << 7 * digits) - 1)
    return head[:width], None if value == (1 << 7 * digits) - 1 else value, at + width + digits


def _riffs(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int]]:
    """Kind and end of each RIFF chunk: large AVI files have several."""
    at = 0
    while at + 12 <= size:
        file.seek(at)
        head = file.read(12)
        length = int.from_bytes(head[4:8], "little")
        if head[:4] != b"RIFF" or not length:
            return
        at += 8 + length + length % 2
        yield head[8:], at


def _asf(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int]]:
    """Kind and end of each top-level object of a WMV file, up to its data."""
    at = 0
    while at + 24 <= size:
        file.seek(at)
        head = file.read(24)
        length = int.from_bytes(head[16:], "little")
        if length < 24:
            return
        at += length
        yield head[:16], at
        if head[:16] == _ASF_DATA:
            return
