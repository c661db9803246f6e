"""Runs an application on a socket, and lets nobody hold it up: no slow client, and at the end nothing under way."""

import asyncio
import logging
import os
import socket
import threading
from collections.abc import Callable
from types import FrameType

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

_HEAD = 15.0  # seconds for the head of a request
_STALL = 60.0  # seconds in which a client takes nothing; a film that was paused is asked for again by browsers
_MOST_HEAD = 49_152  # bytes
_CONNECTIONS = 256
_GRACE, _END = 1, 1.8  # seconds from Ctrl-C: for answers under way; for all


class Patient(H11Protocol):
    """A connection that ends when its client is too slow."""

    head_seconds, stall_seconds = _HEAD, _STALL
    _head_timer: asyncio.TimerHandle | None = None
    _stall_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().connection_made(transport)
        transport.set_write_buffer_limits(0)  # pyright: ignore[reportAttributeAccessIssue] - any byte left is waited for
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._cancel()
        elif self._head_timer is None and (before is None or before.response_complete):
            self._wait_for_head()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stop_stall_timer()
        self._stall_timer = self.loop.call_later(self.stall_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_stall_timer()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self.transport.abort()  # what it does not take now it never will

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel()
        self._stop_stall_timer()
        super().connection_lost(exc)

    def _stop_stall_timer(self) -> None:
        if self._stall_timer:
            self._stall_timer.cancel()
            self._stall_timer = None

    def _wait_for_head(self) -> None:
        self._head_timer = self.loop.call_later(self.head_seconds, self.transport.abort)

    def _cancel(self) -> None:
        if self._head_timer:
            self._head_timer.cancel()
            self._head_timer = None


class Server(uvicorn.Server):
    """`run([socket])` until Ctrl-C. Ends within 2 s of it, whatever is under way: nothing here writes what counts."""

    def __init__(self, app: ASGIApp, stop: Callable[[], None], protocol: type[Patient] = Patient):
        """`stop`: called once it is to end."""
        super().__init__(
            uvicorn.Config(
                app,
                http=protocol,
                ws="none",
                lifespan="off",
                access_log=False,
                log_level=logging.WARNING,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=_GRACE,
                h11_max_incomplete_event_size=_MOST_HEAD,
                limit_concurrency=_CONNECTIONS,
            )
        )
        self._stop = stop

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._stop()
        last = threading.Timer(_END, os._exit, (128 + sig,))
        last.daemon = True
        last.start()
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # of answers that were cut off
        super().handle_exit(sig, frame)


def listen(host: str, port: int) -> socket.socket:
    """A socket that is not answered yet. Raises ValueError that says what to do."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_CONNECTIONS)
    except OverflowError as error:
        raise ValueError(f"--port {port} is none; ports go from 0 to 65535") from error
    except OSError as error:
        raise ValueError(
            f"{host}:{port} cannot be listened on ({error.strerror or error}); give another --port, or 0 for any"
        ) from error
