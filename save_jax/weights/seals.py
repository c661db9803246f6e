"""Checksums of a folder's files, kept beside them: what was damaged, lost or never finished is known before it is read.

A checkpoint's arrays carry none: of bits flipped in them, reading would say nothing.
"""

import json
import zlib
from collections.abc import Iterable
from pathlib import Path

from save_jax.data.files import write_json

NAME = "crc32.json"
CHUNK = 1 << 24  # bytes read at a time; zlib works on them without Python's lock, beside the training loop


def checksum(path: Path) -> int:
    """CRC-32 of a file."""
    crc = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            crc = zlib.crc32(chunk, crc)
    return crc


def write(folder: Path) -> None:
    """Seals a folder: from now on `problem` knows whether its files are the ones they are now."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(NAME))
    # Whole or not at all: half a list would be taken for damage.
    write_json(folder / NAME, {path.relative_to(folder).as_posix(): checksum(path) for path in files})


def problem(folder: Path, items: Iterable[str]) -> str:
    """What is wrong with some subfolders of a sealed folder, in words; "" for nothing."""
    try:
        sealed = json.loads((folder / NAME).read_text())
    except FileNotFoundError:
        return f"{NAME} is missing"
    except ValueError:
        return f"{NAME} is unreadable"
    for name in (name for name in sealed if name.split("/")[0] in items):
        try:
            crc = checksum(folder / name)
        except FileNotFoundError:
            return f"{name} is missing"
        if crc != sealed[name]:
            return f"{name} has other bytes than were written"
    return ""
