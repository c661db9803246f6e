"""A cache of recognised speech: the same sound with the same model and settings is not transcribed twice.

Each entry is a small JSON file. Its name is the hash of everything that the entry depends on. A killed run leaves whole
entries or none.
"""

import contextlib
import hashlib
import json
import logging
import os
import re
import zlib
from collections.abc import Iterator, Mapping

from data_prep.files import write_json

_CHUNK = 1 << 20
_NOTES = re.compile(r"\.|(readme|licen[cs]e)\b|.*\.md$", re.IGNORECASE)


def file_digest(path: str) -> str:
    """Hash of the file's bytes, read in a stream. Raises OSError."""
    digest = hashlib.blake2b(digest_size=20)
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def model_identity(model: str) -> str:
    """A model's name; for a folder, a hash of every file in it that says what it hears.

    The same path may hold other weights tomorrow. Notes to people, and what a desktop leaves, change nothing.
    """
    if os.path.isdir(model):
        digest = hashlib.blake2b(digest_size=20)
        for name in sorted(name for name in os.listdir(model) if not _NOTES.match(name)):
            path = os.path.join(model, name)
            if os.path.isfile(path):
                digest.update(f"{name}\0{file_digest(path)}\0".encode("utf-8", "surrogateescape"))
        return f"folder {digest.hexdigest()}"
    return model


class CacheError(ValueError):
    """The cache cannot be read or written: nothing that is heard would be kept."""


class Cache:
    """Entries in `folder`, each found by a description: a mapping of everything that its result depends on.

    All raise CacheError. A mark says that something was begun. Who ends it takes the mark away, so that one
    which is left tells of a run that died.
    """

    def __init__(self, folder: str):
        self.folder = folder

    def path(self, description: Mapping) -> str:
        key = hashlib.blake2b(_text(description).encode(), digest_size=20).hexdigest()
        return os.path.join(self.folder, key[:2], key + ".json")

    def get(self, description: Mapping) -> dict | None:
        """The result, or None if there is none. A damaged entry counts as none, with a warning."""
        path = self.path(description)
        try:
            with open(path, encoding="utf-8") as file:
                entry = json.load(file)
            if entry["checksum"] != _checksum(entry["result"]):
                raise ValueError("its checksum differs")
            return entry["result"]
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unusable(error) from error
        except (ValueError, KeyError, TypeError) as error:
            logging.warning("%s is damaged (%s); its clip is done again", path, error)
            return None

    def put(self, description: Mapping, result: Mapping) -> None:
        path = self.path(description)
        with self._writing():
            os.makedirs(os.path.dirname(path), exist_ok=True)
            write_json(path, {"of": description, "checksum": _checksum(result), "result": result}, indent=0)

    def discard(self, description: Mapping) -> None:
        with self._writing(), contextlib.suppress(FileNotFoundError):
            os.remove(self.path(description))

    def mark(self, description: Mapping, times: int) -> None:
        path = self._mark(description)
        with self._writing():
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write(str(times))

    def marks(self, description: Mapping) -> int:
        """How often it was begun and not ended."""
        try:
            with open(self._mark(description), encoding="utf-8") as file:
                return int(file.read())
        except (OSError, ValueError):  # none; or one that was being written
            return 0

    def unmark(self, description: Mapping) -> None:
        with self._writing(), contextlib.suppress(FileNotFoundError):
            os.remove(self._mark(description))

    def _mark(self, description: Mapping) -> str:
        return self.path(description).removesuffix(".json") + ".begun"

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._unusable(error) from error

    def _unusable(self, error: OSError) -> CacheError:
        return CacheError(
            f"the cache {self.folder} cannot be used ({error.strerror or error}); what was heard before is in it: make "
            "room, or see to its rights, and run the same command again"
        )


def _text(value: Mapping) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=True)


def _checksum(result: Mapping) -> int:
    return zlib.crc32(_text(result).encode())
