"""What the API says of an index: files by id, hits with where their picture and their film are found."""

import hashlib
import os
from collections.abc import Mapping
from typing import Any

from save_jax.search import progress
from save_jax.search.library import Answer, Library, Moment
from save_jax.search.server import previews
from save_jax.search.server.media import Media
from save_jax.search.store import READY


def file_id(name: str) -> str:
    """Of a file, by its name in the index: stable, and says nothing of a path."""
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


class Files:
    """The files of one version of an index, by id."""

    def __init__(self, library: Library):
        self._library = library
        self._known: tuple[tuple | None, dict[str, dict]] = (None, {})

    def rows(self) -> dict[str, dict]:
        """Id → row of the files' table, of those that were read."""
        view = self._library.view
        version, known = self._known
        if view.version != version:
            rows = (row for same in view.files.values() for row in same if row["state"] == READY)
            known = {file_id(row["file"]): row for row in rows}
            self._known = view.version, known
        return known

    def get(self, id: str) -> dict | None:
        return self.rows().get(id)


def about(library: Library, files: Files) -> dict[str, Any]:
    """What the page shows before a question."""
    view, rows = library.view, files.rows().values()
    return {
        "name": os.path.basename(os.path.abspath(library.store.folder)),
        "files": len(rows),
        "hours": round(sum(row["duration"] for row in rows) / 3600, 3),
        "windows": len(view),
        "senses": list(library.embedder.senses),
        "folders": sorted({row["file"].rpartition("/")[0] for row in rows}),
        "languages": sorted({row["language"] for row in rows if row["language"]}),
        "offline": library.offline(),
        "cutoff": library.cutoff,
        "examples": library.store.about.examples,
        "indexing": progress.read(library.store.folder),
        "version": "-".join(map(str, view.version)),
    }


def answer(found: Answer, rows: Mapping[str, dict], media: Media) -> dict[str, Any]:
    """Of a search, as JSON. `rows`: by id."""
    return {
        "hits": [hit(moment, rows.get(file_id(moment.name)), media) for moment in found.hits],
        "nothing_relevant": found.nothing_relevant,
        "cutoff": found.cutoff,
        "senses": list(found.senses),
        "offline": found.offline,
    }


def hit(moment: Moment, row: dict | None, media: Media) -> dict[str, Any]:
    """One moment; `row` is None where its file went since."""
    id = file_id(moment.name)
    folder, _, name = moment.name.rpartition("/")
    there, plays, origin = media.state(row) if row else (False, "no", 0.0)
    captions = f"/captions/{id}.vtt" if row and row["source"] else None
    film = f"/media/{id}"
    if plays == "preview":
        origin, end = previews.around(moment.start, moment.end, moment.best, row["duration"] if row else moment.end)
        film = f"/preview/{id}?start={origin:.2f}&end={end:.2f}"
    if captions and origin:
        captions += f"?start={origin:.2f}"
    return {
        "id": id, "name": name, "folder": folder, "start": moment.start, "end": moment.end, "best": moment.best,
        "score": moment.score, "why": moment.why, "words": moment.words, "quoted": moment.quoted,
        "duration": row["duration"] if row else moment.end, "there": there,
        "plays": plays, "media": film, "origin": origin,
        "thumbnail": f"/thumbnail/{id}?at={moment.best:.2f}", "captions": captions,
    }  # fmt: skip
