"""JSON files, written whole or not at all."""

import json
import os
from pathlib import Path


def write_json(path: str | Path, value: object) -> None:
    """Writes whole or not at all: under another name first, on the disk, then renamed."""
    temporary = f"{path}.tmp"
    with open(temporary, "w") as file:
        json.dump(value, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def read_json(path: str | Path) -> dict:
    """The content of a JSON file."""
    with open(path) as file:
        return json.load(file)
