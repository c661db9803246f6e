"""A search server on a real socket, and a client that sends what it is told, byte by byte."""

import contextlib
import dataclasses
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from helpers import library as made
from save_jax.search.library import Library
from save_jax.search.server import serving
from save_jax.search.server.access import Access
from save_jax.search.server.answers import file_id
from save_jax.search.server.app import make_app
from save_jax.search.server.previews import Previews
from save_jax.search.server.safety import Limits
from save_jax.search.store import Store

PATIENCE = 20  # seconds


@dataclasses.dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclasses.dataclass(frozen=True)
class Served:
    """A running server."""

    port: int
    library: Library

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), PATIENCE)

    def get(self, target: str | bytes, headers: Mapping[str, str | bytes] | None = None, method: str = "GET") -> Answer:
        """The target goes out as it stands: nothing tidies it."""
        given = {"host": f"127.0.0.1:{self.port}", **{k.lower(): v for k, v in (headers or {}).items()}}
        lines = [f"{k}: ".encode() + (v if isinstance(v, bytes) else v.encode()) for k, v in given.items()]
        target = target if isinstance(target, bytes) else target.encode("latin-1")
        return self.send(b"\r\n".join([method.encode() + b" " + target + b" HTTP/1.1", *lines]))

    def send(self, head: bytes) -> Answer:
        """Status 0 for a connection that was closed without a word."""
        with self.connect() as connection:
            connection.sendall(head + b"\r\nconnection: close\r\n\r\n")
            received = b""
            with contextlib.suppress(ConnectionError):
                while chunk := connection.recv(1 << 16):
                    received += chunk
        return parsed(received)


def parsed(received: bytes) -> Answer:
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if headers.get("transfer-encoding") == "chunked":
        body = _joined(body)
    return Answer(int(first.split()[1]) if first else 0, headers, body)


def _joined(body: bytes) -> bytes:
    whole = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size or b"0", 16)
        whole, body = whole + body[:length], body[length + 2 :]
    return whole


class Hasty(serving.Patient):
    """Tests do not wait for a minute."""

    head_seconds, stall_seconds = 0.4, 0.8


@contextlib.contextmanager
def serve(
    library: Library, token: str = "", limits: Limits | None = None, films: Previews | None = None, names=()
) -> Iterator[Served]:
    """The application on a port of its own, in a thread."""
    listening = serving.listen("127.0.0.1", 0)
    port = listening.getsockname()[1]
    app = make_app(library, Access(port=port, token=token, names=names), limits or Limits(1000, 1000), films)
    server = serving.Server(app, lambda: None, Hasty)
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield Served(port, library)
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        assert not thread.is_alive()


def index_plainly(folder: Path, root: Path) -> Library:
    """An index of any bytes named as videos, which no model made: its files can be asked for, and nothing searched."""
    for path in root.rglob("*"):
        if path.is_file():
            made.settle(path)
    made.update_plainly(folder, root)
    return Library(Store.open(str(folder)), made.NoModel())


def id_of(library: Library, ending: str) -> str:
    """Of the one file whose name ends so."""
    [name] = [name for name in made.names(library.store) if name.endswith(ending)]
    return file_id(name)
