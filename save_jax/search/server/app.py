"""The HTTP API: questions, moments along a file, thumbnails, films, captions, progress; and the page."""

import time
from importlib import resources
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query
from fastapi.responses import FileResponse, Response

from save_jax.search.library import Filters, Library
from save_jax.search.server import answers
from save_jax.search.server.answers import Files

_ASSETS = resources.files("save_jax.search.server")


def make_app(library: Library) -> FastAPI:
    """The application of one index."""
    app, files = FastAPI(title="save_jax search"), Files(library)

    @app.get("/api/library")
    def about() -> dict[str, Any]:
        return answers.about(library, files)

    @app.get("/api/search")
    def search(
        q: Annotated[str, Query(max_length=10_000)] = "",
        like: str = "",  # ID or ID@SECOND
        top: Annotated[int, Query(ge=1, le=100)] = 20,
        folder: str = "",
        after: float = 0.0,
        longer: float = 0.0,
        shorter: float = float("inf"),
        language: str = "",
        mute: Annotated[list[str], Query()] = [],  # noqa: B006
    ) -> dict[str, Any]:
        begin = time.perf_counter()
        filters = Filters(folder, after, longer, shorter, language)
        found = library.search(q, top, like=_named(like), filters=filters, mute=mute)
        took = round(1000 * (time.perf_counter() - begin), 1)
        return answers.answer(found, library, files) | {"took_ms": took}

    @app.get("/api/files/{id}/along")
    def along(id: str, q: str = "", like: str = "", mute: Annotated[list[str], Query()] = []) -> dict[str, Any]:  # noqa: B006
        return {"windows": library.along(_row(id)["file"], q, _named(like), mute)}

    @app.get("/media/{id}")
    def media(id: str) -> Response:
        return FileResponse(library.path_of(_row(id)))

    def _row(id: str) -> dict:
        if (row := files.get(id)) is None:
            raise HTTPException(404, "no such file in this index")
        return row

    def _named(like: str) -> str:
        id, at, second = like.partition("@")
        return f"{_row(id)['file']}{at}{second}" if like else ""

    @app.get("/")
    def page() -> Response:
        return FileResponse(str(_ASSETS / "page.html"))

    return app
