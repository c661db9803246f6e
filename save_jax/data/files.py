"""JSON files, written whole or not at all."""

import json
import os
from pathlib import Path


def write_json(path: str | Path, value: object) -> None:
    """Writes whole or not at all: under another name first, on the disk, then renamed."""
    temporary = f"{path}.tmp"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def plain(value: object) -> object:
    """A value as JSON gives it back: tuples become lists."""
    return json.loads(json.dumps(value))


def read_json(path: str | Path) -> dict:
    """The content of a JSON file."""
    with open(path, encoding="utf-8") as file:
        return json.load(file)
