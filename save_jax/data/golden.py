"""Golden files: numbers stored from the authors' code, as NAME.npz, perhaps in parts NAME.part2.npz, …"""

import re
import zipfile
from pathlib import Path

import numpy as np

UNREADABLE = (OSError, ValueError, EOFError, zipfile.BadZipFile)  # what np.load raises for other files
_PART = re.compile(r"(.+?)(?:\.part\d+)?(?:\.npz)?")


def whole(path: Path) -> Path:
    """NAME.npz of a golden file, or of one of its parts."""
    match = _PART.fullmatch(path.name)
    assert match  # it matches every name
    return path.with_name(match[1] + ".npz")


def read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a golden file with all its parts, any of which may be given.

    Raises ValueError where there is none, or a part is damaged or repeats what another holds.
    """
    first, arrays = whole(path), {}
    parts = sorted(first.parent.glob(f"{first.stem}.part*.npz"), key=lambda part: int(part.stem.rsplit("part", 1)[1]))
    paths = [first, *parts] if first.exists() else parts
    if not paths:
        raise ValueError(f"no golden file at {path}")
    for part in paths:
        try:
            with np.load(part) as file:
                here = {name: file[name] for name in file.files}
        except UNREADABLE as error:
            raise ValueError(f"{part} is no readable npz file ({error})") from error
        if twice := [name for name in here if name in arrays and name != "meta_json"]:
            raise ValueError(f"{part} repeats {', '.join(twice[:3])} of another part")
        arrays |= here
    return arrays
