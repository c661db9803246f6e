"""A file's bytes, whole or one range of them, from a descriptor that was opened and checked.

Of RFC 9110: one range of bytes, also a suffix; ETag, If-None-Match and If-Range. Several ranges at once, and what is no
range, are answered with the whole, as it allows; a range behind the end is 416.
"""

import os
import re
from collections.abc import Mapping
from typing import NamedTuple

import anyio
import anyio.to_thread
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

_CHUNK = 1 << 16  # bytes
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})", re.ASCII)


class Span(NamedTuple):
    """Bytes from `begin`, before `end`."""

    begin: int
    end: int


class Unsatisfiable(Exception):
    """A range that lies behind the end."""


def parse(asked: str, size: int) -> Span | None:
    """None for what is no single range, which is passed over. Raises Unsatisfiable."""
    found = _RANGE.fullmatch(asked.strip())
    if found is None or found[1] == found[2] == "":
        return None
    first, last = found[1], found[2]
    if not first:
        begin, end = max(0, size - int(last)), size
    else:
        begin, end = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < begin:  # inverted: it is no range
            return None
    if begin >= end:
        raise Unsatisfiable
    return Span(begin, end)


class FileAnswer(Response):
    """Sends a descriptor, and closes it whatever happens."""

    def __init__(self, number: int, size: int, tag: str, media_type: str):
        """`tag`: of this version of the file."""
        super().__init__(media_type=media_type)
        self._number, self._size, self._tag = number, size, f'"{tag}"'

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._until_gone, receive, tasks.cancel_scope)
                await self._answer(scope, send)
                tasks.cancel_scope.cancel()
        finally:
            os.close(self._number)

    async def _until_gone(self, receive: Receive, scope: anyio.CancelScope) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        scope.cancel()

    async def _answer(self, scope: Scope, send: Send) -> None:
        status, span, headers = self._head(Headers(scope=scope))
        headers |= {"accept-ranges": "bytes", "etag": self._tag, "cache-control": "private, no-cache"}
        raw = [(name.encode(), value.encode("ascii")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        at = span.end if scope["method"] == "HEAD" else span.begin
        while at < span.end:
            try:
                chunk = await anyio.to_thread.run_sync(os.pread, self._number, min(_CHUNK, span.end - at), at)
            except OSError:  # the disk went away
                return
            if not chunk:  # the file became shorter: the connection ends before what was promised
                return
            at += len(chunk)
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _head(self, asked: Headers) -> tuple[int, Span, dict[str, str]]:
        whole = Span(0, self._size)
        if self._tag in [tag.strip() for tag in asked.get("if-none-match", "").split(",")]:
            return 304, Span(0, 0), {}
        span = None
        if "range" in asked and asked.get("if-range", self._tag) == self._tag:
            try:
                span = parse(", ".join(asked.getlist("range")), self._size)
            except Unsatisfiable:
                return 416, Span(0, 0), {"content-range": f"bytes */{self._size}", "content-length": "0"}
        begin, end = span or whole
        headers = {"content-type": self.media_type or "", "content-length": str(end - begin)}
        if span is None:
            return 200, whole, headers
        return 206, span, headers | {"content-range": f"bytes {begin}-{end - 1}/{self._size}"}


def tag_of(about: Mapping) -> str:
    """Of one version of a file, by its row."""
    return f"{about['size']:x}-{about['modified']:x}"
