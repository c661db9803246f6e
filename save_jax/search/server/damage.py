"""What is answered where an index cannot be read: one sentence, and no path."""

import logging
import threading
import time

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from starlette.requests import Request

from save_jax.search.store import LibraryError

SENTENCE = "the index cannot be read; stop the server and run save-jax search doctor LIBRARY"
# LanceDB has no class of its own, and Arrow's are ValueErrors.
KINDS: tuple[type[Exception], ...] = (LibraryError, RuntimeError, OSError, ValueError)
_QUIET = 60.0  # seconds from one line in the log to the next
_log = logging.getLogger("uvicorn.error")


class Damage:
    """Of one index that is served."""

    def __init__(self):
        self._told, self._lock = -_QUIET, threading.Lock()

    def add(self, app: FastAPI) -> None:
        """Answers what an application's rooms raise."""
        for kind in KINDS:
            app.add_exception_handler(kind, self._answer)

    def tell(self, error: Exception) -> None:
        """Into the log, once a minute: pages ask again and again."""
        now = time.monotonic()
        with self._lock:
            if now - self._told < _QUIET:
                return
            self._told = now
        known = isinstance(error, LibraryError) or "lance" in str(error)
        _log.error("%s (%s)", SENTENCE, error, exc_info=None if known else error)

    async def _answer(self, request: Request, error: Exception) -> JSONResponse:
        self.tell(error)
        return JSONResponse({"detail": SENTENCE}, 500)
