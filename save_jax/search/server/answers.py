"""What the API says of an index: files by id, hits with where their picture and their film are found."""

import hashlib
import os
from typing import Any

from save_jax.search.library import Answer, Library, Moment
from save_jax.search.store import READY


def file_id(name: str) -> str:
    """Of a file, by its name in the index: stable, and says nothing of a path."""
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


class Files:
    """The files of one version of an index, by id."""

    def __init__(self, library: Library):
        self._library = library
        self._version: tuple | None = None
        self._rows: dict[str, dict] = {}

    def rows(self) -> dict[str, dict]:
        """Id → row of the files' table, of those that were read."""
        view = self._library.view
        if view.version != self._version:
            rows = (row for same in view.files.values() for row in same if row["state"] == READY)
            self._rows, self._version = {file_id(row["file"]): row for row in rows}, view.version
        return self._rows

    def get(self, id: str) -> dict | None:
        return self.rows().get(id)


def about(library: Library, files: Files) -> dict[str, Any]:
    """What the page shows before a question."""
    rows = files.rows().values()
    folders = sorted({row["file"].rpartition("/")[0] for row in rows})
    return {
        "files": len(rows),
        "hours": round(sum(row["duration"] for row in rows) / 3600, 3),
        "windows": len(library.view),
        "senses": list(library.embedder.senses),
        "folders": folders,
        "languages": sorted({row["language"] for row in rows if row["language"]}),
        "offline": library.offline(),
        "cutoff": library.cutoff,
    }


def answer(found: Answer, library: Library, files: Files) -> dict[str, Any]:
    """Of a search, as JSON."""
    return {
        "hits": [hit(moment, library, files) for moment in found.hits],
        "nothing_relevant": found.nothing_relevant,
        "cutoff": found.cutoff,
        "senses": list(found.senses),
        "offline": found.offline,
    }


def hit(moment: Moment, library: Library, files: Files) -> dict[str, Any]:
    id = file_id(moment.name)
    row = files.get(id)
    folder, _, name = moment.name.rpartition("/")
    return {
        "id": id, "name": name, "folder": folder, "start": moment.start, "end": moment.end, "best": moment.best,
        "score": moment.score, "why": moment.why, "words": moment.words, "quoted": moment.quoted,
        "duration": row["duration"] if row else moment.end, "there": os.path.exists(moment.file),
    }  # fmt: skip
