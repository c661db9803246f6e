"""What every request must be before the application sees it, and what every answer says to the browser.

Nothing is decided by an address that was put together from the Host header: the path is the one that was sent.
"""

import html
import time
from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from save_jax.search.server.access import Access

_HEADERS = {
    "content-security-policy": (
        "default-src 'self'; img-src 'self' data:; media-src 'self' blob:; object-src 'none'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "x-frame-options": "DENY",
}
_LONGEST = 32_768  # bytes of a query string
_CLIENTS = 1000  # whose last searches are kept in mind
_FILMS, _EVENTS = ("/media/", "/preview/"), "/api/progress"


@dataclass(frozen=True)
class Limits:
    """How much one server does at once."""

    searches: float = 20.0  # a second, of one client
    burst: int = 60
    films: int = 64  # that are being sent
    events: int = 128  # readers of progress
    events_of_one: int = 8  # of one client


class Safety:
    """An application behind the checks."""

    def __init__(self, app: ASGIApp, access: Access, limits: Limits):
        self._app, self._access, self._limits = app, access, limits
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._films = 0
        self._events: Counter[str] = Counter()  # by client

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":  # there are no web sockets
            return
        send = _with_headers(send)
        refused = self._refuse(scope, Headers(scope=scope))
        if refused is not None:
            return await refused(scope, receive, send)
        if scope["path"].startswith(_FILMS):
            return await self._send_film(scope, receive, send)
        if scope["method"] == "HEAD":  # the server leaves the body out
            scope = {**scope, "method": "GET"}
        if scope["path"] == _EVENTS:
            return await self._send_events(scope, receive, send)
        await self._app(scope, receive, send)

    async def _send_film(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._films >= self._limits.films:
            return await _no(503, "too many films are being sent", {"retry-after": "2"})(scope, receive, send)
        self._films += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._films -= 1

    async def _send_events(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = _client(scope)
        if self._events[client] >= self._limits.events_of_one or self._events.total() >= self._limits.events:
            return await _no(503, "too many read the news", {"retry-after": "10"})(scope, receive, send)
        self._events[client] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._events[client] -= 1
            if not self._events[client]:
                del self._events[client]

    def _refuse(self, scope: Scope, headers: Headers) -> Response | None:
        """The answer to a request that goes no further."""
        if scope["method"] not in ("GET", "HEAD"):
            return _no(405, "only GET and HEAD are answered", {"allow": "GET, HEAD"})
        if len(scope["query_string"]) > _LONGEST:
            return _no(414, f"the query is longer than {_LONGEST} bytes")
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._access.knows_host(hosts[0], (scope.get("server") or ("",))[0]):
            return _no(421, "this server is not reached under this name; start it with --name HOST")
        if self._is_foreign(scope, headers, hosts[0]):
            return _no(403, "another site asks")
        if self._access.token and (answer := self._ask_token(scope, headers)):
            return answer
        return self._slow_down(scope)

    def _is_foreign(self, scope: Scope, headers: Headers, host: str) -> bool:
        origins = headers.getlist("origin")
        if origins and origins not in ([f"http://{host}"], [f"https://{host}"]):
            return True
        site = headers.getlist("sec-fetch-site")
        if not site or site in (["same-origin"], ["none"]):
            return False
        # A link may lead here. "same-site" is another port of this machine.
        opened = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
        return not (opened and scope["path"] == "/")

    def _ask_token(self, scope: Scope, headers: Headers) -> Response | None:
        access = self._access
        asked = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        tokens = [value for name, value in asked if name == "token"]
        if tokens and scope["path"] == "/":
            if not access.take_once(tokens[0]) and not access.knows_token(tokens[0]):
                return _no_page(401, "The token is wrong.", {"www-authenticate": "Bearer"})
            rest = urlencode([(name, value) for name, value in asked if name != "token"])
            answer = RedirectResponse("/" + (f"?{rest}" if rest else ""), 303, {"cache-control": "no-store"})
            # Lax, so that a link from elsewhere opens the page; all else that another site asks for is refused above.
            answer.set_cookie(access.cookie, access.cookie_value, path="/", httponly=True, samesite="lax")
            return answer
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and access.knows_token(given.strip()):
            return None
        if access.knows_cookie(cookie_parser(headers.get("cookie", "")).get(access.cookie, "")):
            return None
        how = "open /?token=… once, or send Authorization: Bearer …"
        if scope["path"] == "/":
            return _no_page(401, f"A token is needed: {how}.", {"www-authenticate": "Bearer"})
        return _no(401, f"a token is needed: {how}", {"www-authenticate": "Bearer"})

    def _slow_down(self, scope: Scope) -> Response | None:
        path, client = scope["path"], _client(scope)
        if path != "/api/search" and not (path.startswith("/api/files/") and path.endswith("/along")):
            return None
        now = time.monotonic()
        left, last = self._buckets.pop(client, (float(self._limits.burst), now))
        left = min(self._limits.burst, left + (now - last) * self._limits.searches)
        self._buckets[client] = max(0.0, left - 1), now
        if len(self._buckets) > _CLIENTS:
            self._buckets.popitem(last=False)
        return _no(429, "too many searches at once; ask again", {"retry-after": "1"}) if left < 1 else None


def _client(scope: Scope) -> str:
    return (scope.get("client") or ("",))[0]


def _no(status: int, why: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"detail": why}, status, headers)


def _no_page(status: int, why: str, headers: dict[str, str]) -> Response:
    """A sentence for people."""
    page = "<!doctype html><html lang=en><meta charset=utf-8><title>save_jax search</title><p>"
    return HTMLResponse(page + html.escape(why), status, headers)


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = {name.lower() for name, _ in message["headers"]}
            message["headers"] = [*message["headers"], *_missing(given)]
        await send(message)

    return sent


def _missing(given: set[bytes]) -> Iterable[tuple[bytes, bytes]]:
    for name, value in {**_HEADERS, "cache-control": "no-store"}.items():
        if name.encode() not in given:
            yield name.encode(), value.encode()
