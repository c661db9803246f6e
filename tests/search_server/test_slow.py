"""Clients that are slow, stop, or leave, and files that change meanwhile: nobody else waits, and nothing stays open."""

import contextlib
import os
import socket
import time

import pytest
from helpers.server import PATIENCE, id_of, index_plainly, parsed, serve

from save_jax.search.server import serving
from save_jax.search.server.safety import Limits

BIG = 30_000_000
SOON = 10  # seconds, on a busy machine; what is waited for in vain takes a quarter of a minute, or for ever


@pytest.fixture
def big(tmp_path):
    """(library, path) of a film that no socket's buffer holds."""
    path = tmp_path / "root" / "big.mp4"
    path.parent.mkdir()
    with open(path, "wb") as file:
        file.write(b"\0\0\0\x20ftypisom")
        file.truncate(BIG)
    return index_plainly(tmp_path / "index", path.parent), path


def until(holds) -> bool:
    deadline = time.monotonic() + PATIENCE
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.05)
    return holds()


def descriptors(path) -> int:
    """How often this process has a file open."""
    count = 0
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            count += os.readlink(f"/proc/self/fd/{number}").startswith(str(path))
    return count


def begin(server, id, headers=""):
    """A connection that asked for a film, and took a little of it."""
    connection = server.connect()
    connection.sendall(f"GET /media/{id} HTTP/1.1\r\nhost: 127.0.0.1:{server.port}\r\n{headers}\r\n".encode())
    return connection, connection.recv(1000)


def rest(connection) -> bytes:
    received = b""
    with contextlib.suppress(ConnectionError):
        while chunk := connection.recv(1 << 20):
            received += chunk
    return received


def test_a_head_that_never_ends_is_not_waited_for(served):
    for head in (b"", b"GET", b"GET / HTTP/1.1\r\nhost: x\r\n", b"GET / HTTP/1.1\r\nx: " + b"a" * 1000):
        with served.connect() as connection:
            connection.sendall(head)
            begun = time.monotonic()
            assert rest(connection) == b""
            assert time.monotonic() - begun < SOON


def test_a_second_head_that_never_ends_is_not_waited_for(served):
    with served.connect() as connection:
        connection.sendall(f"GET /nothing HTTP/1.1\r\nhost: 127.0.0.1:{served.port}\r\n\r\n".encode())
        assert b"404" in connection.recv(1 << 16)
        connection.sendall(b"GET / HTTP/1.1\r\n")
        begun = time.monotonic()
        assert rest(connection) == b""
        assert time.monotonic() - begun < SOON


def test_drops_of_a_head_do_not_prolong_it(served):
    with served.connect() as connection, contextlib.suppress(ConnectionError):
        for _ in range(40):
            connection.sendall(b"x")
            time.sleep(0.1)
        pytest.fail("it was waited for")


def test_a_reader_who_stops_is_let_go(big):
    library, path = big
    with serve(library) as server:
        stopped = [begin(server, id_of(library, "big.mp4"))[0] for _ in range(10)]
        assert descriptors(path) == 10
        begun = time.monotonic()
        assert server.get("/api/library").status == 200
        assert time.monotonic() - begun < SOON
        assert until(lambda: descriptors(path) == 0)
        for connection in stopped:
            connection.close()


def test_no_more_films_are_sent_than_allowed(big):
    library, _ = big
    with serve(library, limits=Limits(1000, 1000, films=2)) as server:
        id = id_of(library, "big.mp4")
        sent = [begin(server, id)[0] for _ in range(2)]
        answer = server.get(f"/media/{id}")
        assert answer.status == 503 and answer.headers["retry-after"] and "films" in answer.body.decode()
        assert server.get("/api/library").status == 200
        sent.pop().close()
        assert until(lambda: server.get(f"/media/{id}", {"range": "bytes=0-9"}).status == 206)
        sent.pop().close()


def test_a_reader_who_stops_at_the_end_is_let_go(tmp_path, monkeypatch):
    """What is left fits into the server's own buffer, and the connection is to be closed behind it."""
    path = tmp_path / "root" / "a.mp4"
    path.parent.mkdir()
    path.write_bytes(b"\0\0\0\x20ftypisom" + bytes(60_000))
    library = index_plainly(tmp_path / "index", path.parent)
    listen = serving.listen

    def listen_with_little(host, port):
        listening = listen(host, port)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        return listening

    monkeypatch.setattr(serving, "listen", listen_with_little)
    with serve(library) as server, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.port))
        address = f"/media/{id_of(library, 'a.mp4')}"
        head = f"GET {address} HTTP/1.1\r\nhost: 127.0.0.1:{server.port}\r\nconnection: close\r\n\r\n"
        connection.sendall(head.encode())
        time.sleep(2)
        assert len(rest(connection)) < 60_000


def test_a_reader_who_leaves_is_noticed(big):
    """The rest of the film, of which there is far more than can be read meanwhile, is not read for nobody."""
    library, path = big
    os.truncate(path, 10**12)
    [row] = library.store.file_rows()
    library.store.put_files([row | {"size": 10**12, "modified": os.stat(path).st_mtime_ns}])
    with serve(library) as server:
        connection, _ = begin(server, id_of(library, "big.mp4"))
        connection.close()
        assert until(lambda: descriptors(path) == 0)


def test_a_slow_reader_gets_it_all(big):
    library, path = big
    with serve(library) as server:
        connection, received = begin(server, id_of(library, "big.mp4"), "connection: close\r\n")
        size = len(received)
        for _ in range(12):
            size += len(connection.recv(1 << 18))
            time.sleep(0.1)
        size += len(rest(connection))
        connection.close()
        assert size > BIG and until(lambda: descriptors(path) == 0)


def test_a_film_that_is_deleted_while_it_plays_ends_well(big):
    library, path = big
    with serve(library) as server:
        id = id_of(library, "big.mp4")
        connection, received = begin(server, id, "connection: close\r\n")
        path.unlink()
        assert len(parsed(received + rest(connection)).body) == BIG
        connection.close()
        answer = server.get(f"/media/{id}", {"range": "bytes=5-"})
        assert answer.status == 410 and "not there" in answer.json()["detail"]
        path.write_bytes(b"another")
        assert server.get(f"/media/{id}").status == 410


def test_a_film_that_is_cut_while_it_plays_ends_its_connection(big):
    library, path = big
    with serve(library) as server:
        id = id_of(library, "big.mp4")
        connection, received = begin(server, id, "connection: close\r\n")
        os.truncate(path, 10)
        answer = parsed(received + rest(connection))
        connection.close()
        assert int(answer.headers["content-length"]) == BIG > len(answer.body)
        answer = server.get(f"/media/{id}")
        assert answer.status == 410 and "changed" in answer.json()["detail"]
        assert descriptors(path) == 0


def test_many_readers_and_a_search(served):
    """Fifty films, none of which is taken, and a question."""
    id = id_of(served.library, "dog.mp4")
    connections = []
    for _ in range(50):
        connection = served.connect()
        connection.sendall(f"GET /media/{id} HTTP/1.1\r\nhost: 127.0.0.1:{served.port}\r\n\r\n".encode())
        connections.append(connection)
    begun = time.monotonic()
    assert served.get("/api/search?q=dog").status == 200
    assert time.monotonic() - begun < SOON
    for connection in connections:
        connection.close()
