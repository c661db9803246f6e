"""The HTTP API: questions, moments along a file, thumbnails, films, captions, progress; and the page."""

import functools
import math
import time
from collections.abc import AsyncIterator, Callable
from importlib import resources
from typing import Annotated, Any, TypeVar

import anyio
from anyio import to_thread
from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.responses import FileResponse, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from save_jax.search import progress
from save_jax.search.library import Filters, Library
from save_jax.search.server import answers, captions, pictures, previews
from save_jax.search.server.access import Access
from save_jax.search.server.answers import Files
from save_jax.search.server.damage import KINDS, Damage
from save_jax.search.server.encoding import TooSlow
from save_jax.search.server.media import Media
from save_jax.search.server.opening import Gone
from save_jax.search.server.previews import Busy, Full, Previews
from save_jax.search.server.ranges import FileAnswer, tag_of
from save_jax.search.server.safety import Limits, Safety
from save_jax.search.server.turns import Crowded, Left, Turns

_ASSETS = resources.files("save_jax.search.server")
_SCRIPTS = ("page", "address", "controls", "keys", "live", "parts", "player", "results", "strip")
_STATIC = {"page.css": "text/css"} | {f"{name}.js": "text/javascript" for name in _SCRIPTS}
_LONGEST = 10_000  # characters of a query
_ONE_BY_ONE = 2  # threads of decoding for thumbnails, and of scoring: each keeps a core busy
_LINE = 64  # thumbnails, and questions, that wait or are answered
_LOOK = 1.0  # seconds from one look at an index for news to the next
_BOTH = ["GET", "HEAD"]
T = TypeVar("T")

Sentence = Annotated[str, Query(max_length=_LONGEST)]
Name = Annotated[str, Query(max_length=4096)]
Number = Annotated[float, Query(allow_inf_nan=False)]
Second = Annotated[float, Query(ge=0, allow_inf_nan=False)]
Senses = Annotated[list[str], Query(max_length=3)]


def make_app(
    library: Library, access: Access | None = None, limits: Limits | None = None, films: Previews | None = None
) -> Safety:
    """The application of one index, behind its checks.

    Args:
        access: by default this machine alone, on any port.
        limits: of what it does at once.
        films: previews; by default kept in the user's cache.
    """
    app = FastAPI(title="save_jax search", docs_url=None, redoc_url=None, redirect_slashes=False)
    films = films or Previews(previews.folder_of(library.store.folder))
    files, media, damage = Files(library), Media(library), Damage()
    damage.add(app)
    _add_questions(app, library, files, media)
    _add_events(app, library, files, damage)
    _add_files(app, library, files, media, films)
    _add_page(app)
    return Safety(app, access or Access(), limits or Limits())


def _add_questions(app: FastAPI, library: Library, files: Files, media: Media) -> None:
    turns = Turns(_ONE_BY_ONE, _LINE)

    @app.get("/api/library")
    def about() -> dict[str, Any]:
        return answers.about(library, files)

    @app.get("/api/search")
    async def search(
        request: Request,
        q: Sentence = "",
        like: Name = "",  # ID or ID@SECOND
        top: Annotated[int, Query(ge=1, le=100)] = 20,
        folder: Name = "",
        after: Number = 0.0,
        longer: Number = 0.0,
        shorter: Annotated[float | None, Query(allow_inf_nan=False)] = None,
        language: Name = "",
        mute: Senses = [],  # noqa: B006
    ) -> dict[str, Any]:
        filters = Filters(folder, after, longer, math.inf if shorter is None else shorter, language)

        def ask() -> dict[str, Any]:
            begin = time.perf_counter()
            named = _named(files, like)
            found = _told(lambda: library.search(q, top, like=named, filters=filters, mute=mute))
            answer = answers.answer(found, files.rows(), media)
            return answer | {"took_ms": round(1000 * (time.perf_counter() - begin), 1)}

        return await _turn(turns, ask, request)

    @app.get("/api/files/{id}/along")
    async def along(
        request: Request,
        id: str,
        q: Sentence = "",
        like: Name = "",
        mute: Senses = [],  # noqa: B006
    ) -> dict[str, Any]:
        def ask() -> dict[str, Any]:
            row, named = _row(files, id), _named(files, like)
            windows = _told(lambda: library.along(row["file"], q, named, mute))
            return {"windows": windows, "duration": row["duration"], "cutoff": library.cutoff}

        return await _turn(turns, ask, request)


def _add_events(app: FastAPI, library: Library, files: Files, damage: Damage) -> None:
    def look(before: tuple) -> tuple[tuple, dict | None]:
        """(version and progress now, the library where it changed)."""
        version, now = library.view.version, progress.read(library.store.folder)
        changed = before[0] != version or (before[1] is None) != (now is None)
        return (version, now), answers.about(library, files) if changed else None

    @app.get("/api/progress", response_class=EventSourceResponse)
    async def events() -> AsyncIterator[ServerSentEvent]:
        told: tuple = (None, None)
        while True:
            try:
                seen, about = await to_thread.run_sync(look, told)
            except KINDS as error:  # its reader asks again, some time
                damage.tell(error)
                return
            if about is not None:
                yield ServerSentEvent(data=about, event="library")
            if seen[1] is not None and seen[1] != told[1]:
                yield ServerSentEvent(data=seen[1], event="progress")
            told = seen
            await anyio.sleep(_LOOK)


def _add_files(app: FastAPI, library: Library, files: Files, media: Media, films: Previews) -> None:
    turns = Turns(_ONE_BY_ONE, _LINE)

    @app.get("/thumbnail/{id}")
    async def thumbnail(request: Request, id: str, at: Second = 0.0) -> Response:
        def draw() -> bytes:
            row = _row(files, id)
            try:
                with media.opened(row) as file:
                    return pictures.thumbnail(file.path, min(at, row["duration"]), row["duration"])
            except (Gone, ValueError, OSError, ArithmeticError):  # of any file, the index has a picture
                kept = library.picture(row["content"], at)
            if not kept:
                raise HTTPException(404, "there is no picture of this file")
            return kept

        drawn = await _turn(turns, draw, request)
        return Response(drawn, media_type="image/jpeg", headers={"cache-control": "private, max-age=300"})

    @app.api_route("/media/{id}", methods=_BOTH, include_in_schema=False)
    def film(id: str) -> Response:
        row = _row(files, id)
        try:
            file = media.take(row)
        except Gone as error:
            raise HTTPException(410, str(error)) from error
        return FileAnswer(file.number, file.size, tag_of(row), file.kind)

    @app.api_route("/preview/{id}", methods=_BOTH, include_in_schema=False)
    async def preview(
        request: Request,
        id: str,
        start: Second = 0.0,
        end: Annotated[float | None, Query(ge=0, allow_inf_nan=False)] = None,
    ) -> Response:
        row = await to_thread.run_sync(_row, files, id)
        begin, longest = round(start, 1), round(start + previews.LONGEST, 1)
        last = round(min(row["duration"], longest if end is None else end, longest), 1)
        if not begin < last:
            raise HTTPException(400, f"nothing lies between {begin:.2f} and {last:.2f} s of {row['duration']:.2f}")
        try:
            client = request.client.host if request.client else ""
            take = functools.partial(media.take, row)
            made = await films.get(id, take, row, begin, last, request.is_disconnected, client)
        except Gone as error:
            raise HTTPException(410, str(error)) from error
        except TooSlow as error:
            raise HTTPException(504, "it takes too long to make a preview of this file") from error
        except (ValueError, ArithmeticError) as error:
            raise HTTPException(415, "this file cannot be shown: nothing here decodes it") from error
        except Full as error:
            raise HTTPException(507, str(error)) from error
        except Busy as error:
            raise HTTPException(503, "too many previews at once; ask again", {"retry-after": "2"}) from error
        except InterruptedError as error:
            raise HTTPException(503, "the server ends") from error
        except Left as error:
            raise HTTPException(503, "nobody waits for it") from error
        return FileAnswer(made.number, made.size, f"{tag_of(row)}-{begin:.1f}-{last:.1f}", made.kind)

    @app.get("/captions/{name}")
    def lines(name: str, start: Number = 0.0) -> Response:
        id, dot, kind = name.partition(".")
        row = _row(files, id if dot + kind == ".vtt" else "")
        said = library.store.segments_of(row["content"])
        return Response(captions.webvtt(said, start), media_type="text/vtt")


def _add_page(app: FastAPI) -> None:
    @app.get("/")
    def page() -> Response:
        return _asset("page.html", "text/html")

    @app.get("/static/{name}")
    def static(name: str) -> Response:
        if name not in _STATIC:
            raise HTTPException(404, "no such file")
        return _asset(name, _STATIC[name])


def _asset(name: str, kind: str) -> Response:
    path = _ASSETS / name
    if not path.is_file():
        raise HTTPException(404, "no such file")
    return FileResponse(str(path), media_type=kind, headers={"cache-control": "no-cache"})


def _row(files: Files, id: str) -> dict:
    if (row := files.get(id)) is None:
        raise HTTPException(404, "no such file in this index")
    return row


async def _turn(turns: Turns, work: Callable[[], T], request: Request) -> T:
    """`work()` when its turn comes; 503 where too many wait."""
    try:
        return await turns.take(work, request.is_disconnected)
    except Crowded as error:
        raise HTTPException(503, "too much is asked at once; ask again", {"retry-after": "1"}) from error
    except Left as error:
        raise HTTPException(503, "nobody waits for it") from error


def _named(files: Files, like: str) -> str:
    """As `Library.search` names a file, and perhaps a second of it."""
    id, at, second = like.partition("@")
    return f"{_row(files, id)['file']}{at}{second}" if like else ""


def _told(ask: Callable[[], T]) -> T:
    """The answer; 400 with the words of what was asked wrongly."""
    try:
        return ask()
    except ValueError as error:
        if type(error) is not ValueError:  # it is of the index, and none of the question
            raise
        raise HTTPException(400, str(error)) from error
