"""The HTTP API: questions, moments along a file, thumbnails, films, captions, progress; and the page."""

import math
import os
import time
from collections.abc import AsyncIterator, Callable
from importlib import resources
from typing import Annotated, Any, TypeVar

import anyio
from fastapi import FastAPI, HTTPException, Query
from fastapi.responses import FileResponse, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from data_prep.media.opening import MediaError
from save_jax.search import progress
from save_jax.search.library import Filters, Library
from save_jax.search.server import answers, captions, pictures, previews
from save_jax.search.server.answers import Files
from save_jax.search.server.media import Media
from save_jax.search.server.opening import Gone
from save_jax.search.server.previews import Busy, Full, Previews
from save_jax.search.server.ranges import FileAnswer, tag_of

_ASSETS = resources.files("save_jax.search.server")
_STATIC = {"page.css": "text/css", "page.js": "text/javascript"}
T = TypeVar("T")


def make_app(library: Library) -> FastAPI:
    """The application of one index."""
    app = FastAPI(title="save_jax search", docs_url=None, redoc_url=None, redirect_slashes=False)
    files, media = Files(library), Media(library)
    films = Previews(os.path.join(library.store.folder, "previews"))

    @app.get("/api/library")
    def about() -> dict[str, Any]:
        return answers.about(library, files)

    @app.get("/api/search")
    def search(
        q: Annotated[str, Query(max_length=10_000)] = "",
        like: str = "",  # ID or ID@SECOND
        top: Annotated[int, Query(ge=1, le=100)] = 20,
        folder: str = "",
        after: Annotated[float, Query(allow_inf_nan=False)] = 0.0,
        longer: Annotated[float, Query(allow_inf_nan=False)] = 0.0,
        shorter: Annotated[float | None, Query(allow_inf_nan=False)] = None,
        language: str = "",
        mute: Annotated[list[str], Query()] = [],  # noqa: B006
    ) -> dict[str, Any]:
        begin = time.perf_counter()
        filters = Filters(folder, after, longer, math.inf if shorter is None else shorter, language)
        named = _named(like)
        found = _told(lambda: library.search(q, top, like=named, filters=filters, mute=mute))
        took = round(1000 * (time.perf_counter() - begin), 1)
        return answers.answer(found, files.rows(), media) | {"took_ms": took}

    @app.get("/api/files/{id}/along")
    def along(
        id: str,
        q: Annotated[str, Query(max_length=10_000)] = "",
        like: str = "",
        mute: Annotated[list[str], Query()] = [],  # noqa: B006
    ) -> dict[str, Any]:
        row, named = _row(id), _named(like)
        windows = _told(lambda: library.along(row["file"], q, named, mute))
        return {"windows": windows, "duration": row["duration"], "cutoff": library.cutoff}

    @app.get("/api/progress", response_class=EventSourceResponse)
    async def events() -> AsyncIterator[ServerSentEvent]:
        told: tuple = ()
        while True:
            now = await anyio.to_thread.run_sync(lambda: (library.view.version, progress.read(library.store.folder)))
            if told[:1] != now[:1] or (told[1] is None) != (now[1] is None):
                about = await anyio.to_thread.run_sync(answers.about, library, files)
                yield ServerSentEvent(data=about, event="library")
            if now[1] is not None and told[1:] != now[1:]:
                yield ServerSentEvent(data=now[1], event="progress")
            told = now
            await anyio.sleep(1)

    @app.get("/thumbnail/{id}")
    def thumbnail(id: str, at: Annotated[float, Query(ge=0, allow_inf_nan=False)] = 0.0) -> Response:
        row = _row(id)
        try:
            with media.opened(row) as file:
                picture = pictures.thumbnail(file.path, at)
        except (Gone, MediaError):
            picture = library.picture(row["content"], at)
        return Response(picture, media_type="image/jpeg", headers={"cache-control": "private, max-age=300"})

    @app.get("/media/{id}")
    def film(id: str) -> Response:
        row = _row(id)
        try:
            file = media.take(row)
        except Gone as error:
            raise HTTPException(410, str(error)) from error
        return FileAnswer(file.number, file.size, tag_of(row), file.kind, lambda: os.close(file.number), 60)

    @app.get("/preview/{id}")
    async def preview(
        id: str,
        start: Annotated[float, Query(ge=0, allow_inf_nan=False)] = 0.0,
        end: Annotated[float | None, Query(ge=0, allow_inf_nan=False)] = None,
    ) -> Response:
        row = await anyio.to_thread.run_sync(_row, id)
        longest = round(start + previews.LONGEST, 1)
        last = min(row["duration"], longest if end is None else end, longest)
        if not start < last:
            raise HTTPException(400, f"nothing lies between {start:g} and {last:g} s of {row['duration']:g}")
        try:
            film = await films.get(id, lambda: media.take(row), row, round(start, 1), round(last, 1))
        except Gone as error:
            raise HTTPException(410, str(error)) from error
        except MediaError as error:
            raise HTTPException(415, "this file cannot be shown: nothing here decodes it") from error
        except Full as error:
            raise HTTPException(507, str(error)) from error
        except (Busy, InterruptedError) as error:
            raise HTTPException(503, "too many previews at once; ask again", {"retry-after": "2"}) from error
        tag = f"{tag_of(row)}-{start:.1f}-{last:.1f}"
        return FileAnswer(film.number, film.size, tag, film.kind, lambda: os.close(film.number), 60)

    @app.get("/captions/{name}")
    def lines(name: str, start: Annotated[float, Query(allow_inf_nan=False)] = 0.0) -> Response:
        if not name.endswith(".vtt"):
            raise HTTPException(404, "no such file in this index")
        row = _row(name.removesuffix(".vtt"))
        return Response(captions.webvtt(library.store.segments_of(row["content"]), start), media_type="text/vtt")

    def _row(id: str) -> dict:
        if (row := files.get(id)) is None:
            raise HTTPException(404, "no such file in this index")
        return row

    def _named(like: str) -> str:
        id, at, second = like.partition("@")
        return f"{_row(id)['file']}{at}{second}" if like else ""

    @app.get("/")
    def page() -> Response:
        return _asset("page.html", "text/html")

    @app.get("/static/{name}")
    def static(name: str) -> Response:
        if name not in _STATIC:
            raise HTTPException(404, "no such file")
        return _asset(name, _STATIC[name])

    return app


def _asset(name: str, kind: str) -> Response:
    path = _ASSETS / name
    if not path.is_file():
        raise HTTPException(404, "no such file")
    return FileResponse(str(path), media_type=kind, headers={"cache-control": "no-cache"})


def _told(ask: Callable[[], T]) -> T:
    """The answer; 400 with the words of what was asked wrongly."""
    try:
        return ask()
    except ValueError as error:
        raise HTTPException(400, str(error)) from error
