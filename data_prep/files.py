"""Files that are written whole or not at all: under another name first, which is then changed."""

import contextlib
import json
import os
import uuid
from collections.abc import Iterator

from data_prep.names import short


@contextlib.contextmanager
def replacing(path: str) -> Iterator[str]:
    """A temporary name beside `path`. What the block writes there takes the place of `path` when the block ends.

    If the block raises (a full disk, Ctrl-C), the temporary file is removed and `path` stays as it was.
    """
    folder, name = os.path.split(path)
    temporary = os.path.join(
        folder, short(name, f".tmp-{uuid.uuid4().hex[:8]}")
    )  # two machines may write the same file
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)


def write_json(path: str, value: object, indent: int = 1, end: str = "", ascii_only: bool = False) -> None:
    """Writes a JSON file; its bytes are on the disk before it has its name. Raises OSError (a full disk).

    `ascii_only`: other characters are escaped, so that names of files which are no text can be written.
    """
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=ascii_only, indent=indent)
        file.write(end)
        file.flush()
        os.fsync(file.fileno())
