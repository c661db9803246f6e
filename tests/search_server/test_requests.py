"""Who may ask: names of the server, origins, tokens; and how much at once."""

import contextlib
import socket
import threading
import time

import pytest
from helpers.server import id_of, serve

from save_jax.search.server import app, pictures
from save_jax.search.server.access import Access, check_token, is_loopback
from save_jax.search.server.safety import Limits

TOKEN = "a-token-of-the-test-1234567"


def ask(served, host_lines: bytes, target: bytes = b"/api/library"):
    return served.send(b"GET " + target + b" HTTP/1.1\r\n" + host_lines)


@pytest.mark.parametrize(
    "lines",
    [
        "host: evil.example", "host: evil.example:{port}", "", "host: 127.0.0.1:{port}\r\nhost: evil.example",
        "host: 127.0.0.1:{port}\r\nhost: 127.0.0.1:{port}", "host: localhost.:{port}", "host: 0.0.0.0:{port}",
        "host: 127.0.0.1", "host: 127.0.0.1:1", "host: 127.0.0.1:{port}/x?=", "host: 127.0.0.1:{port}#", "host: ",
        "host: evil.example\r\nx-forwarded-host: 127.0.0.1:{port}", "host: 127.0.0.1:{port}@evil.example",
        "host: 127.0.0.1:{port}, evil.example", "host: 127.0.0.2:{port}", "host: 0x7f.1:{port}", "host: [::]:{port}",
        "host: 127.0.0.1.evil.example:{port}", "host: 127.0.0.1:\u0661", "Host : 127.0.0.1:{port}",
    ],
)  # fmt: skip
def test_another_name_is_not_answered(served, lines):
    for target in (b"/api/library", b"/", b"/media/x", b"/api/progress", b"http://127.0.0.1:%d/" % served.port):
        answer = ask(served, lines.format(port=served.port).encode(), target)
        assert answer.status in (400, 421), answer
        assert b"windows" not in answer.body


def test_http_1_0_without_a_host_is_not_answered(served):
    assert served.send(b"GET /api/library HTTP/1.0").status == 421


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LocalHost", "[::1]"])
def test_own_names_are_answered(served, host):
    assert ask(served, f"host: {host}:{served.port}".encode()).status == 200


def test_a_further_name_is_answered_where_it_is_given(opened):
    with serve(opened, names=("videos.example",)) as server:
        assert ask(server, b"host: videos.example").status == 200
        assert ask(server, b"host: videos.example\r\norigin: https://videos.example").status == 200
        assert ask(server, b"host: example").status == 421


def test_a_server_for_all_addresses_knows_that_of_its_own_at_which_it_was_reached(monkeypatch):
    access = Access("0.0.0.0", 8765, TOKEN)
    assert access.knows_host("192.0.2.1:8765", "192.0.2.1")
    assert access.knows_host("192.0.2.1:8765", "::ffff:192.0.2.1") and access.knows_host(
        "[2001:db8::1]:8765", "2001:db8::1"
    )
    assert not access.knows_host("192.0.2.2:8765", "192.0.2.1") and not access.knows_host("192.0.2.1:1", "192.0.2.1")
    assert not Access("192.0.2.1", 8765, TOKEN).knows_host("192.0.2.9:8765", "192.0.2.9")
    monkeypatch.setattr(socket, "getfqdn", lambda: pytest.fail("a name is looked up again"))
    assert access.knows_host("127.0.0.1:8765") and not access.knows_host("evil.example:8765")


def test_an_unknown_name_is_told_what_to_do(served):
    assert "--name" in ask(served, b"host: evil.example").json()["detail"]


OWN = "http://127.0.0.1:{port}"


def fetched(mode: str, what: str) -> dict[str, str]:
    """Headers that browsers add to what another site asks for."""
    return {"sec-fetch-site": "cross-site", "sec-fetch-mode": mode, "sec-fetch-dest": what}


@pytest.mark.parametrize(
    ("headers", "path", "status"),
    [
        ({"origin": "http://evil.example"}, "/api/library", 403),
        ({"origin": "null"}, "/api/library", 403),
        ({"origin": ""}, "/api/library", 403),
        ({"origin": "http://127.0.0.1:1"}, "/api/library", 403),
        ({"origin": "http://localhost:{port}"}, "/api/library", 403),
        ({"origin": OWN + ".evil.example"}, "/api/library", 403),
        ({"origin": OWN}, "/api/library", 200),
        ({"sec-fetch-site": "cross-site"}, "/api/library", 403),
        ({"sec-fetch-site": "same-site"}, "/api/library", 403),
        ({"sec-fetch-site": "strange"}, "/api/library", 403),
        ({"sec-fetch-site": "same-origin", "origin": "http://evil.example"}, "/api/library", 403),
        ({"sec-fetch-site": "same-origin"}, "/api/library", 200),
        ({"sec-fetch-site": "none"}, "/api/library", 200),
        (fetched("no-cors", "video"), "/media/{id}", 403),
        (fetched("no-cors", "image"), "/thumbnail/{id}", 403),
        (fetched("navigate", "iframe"), "/", 403),
        (fetched("navigate", "document"), "/api/library", 403),
        (fetched("navigate", "document"), "/", "page"),
    ],
)  # fmt: skip
def test_other_sites(served, headers, path, status):
    headers = {name: value.format(port=served.port) for name, value in headers.items()}
    answer = served.get(path.format(id=id_of(served.library, "dog.mp4")), headers)
    assert answer.status == status or (status == "page" and answer.status in (200, 404)), answer
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "get", "FOO"])
def test_nothing_but_get(served, method):
    answer = served.get("/api/library", {"content-type": "text/plain", "content-length": "0"}, method)
    assert answer.status in (400, 405), answer
    assert answer.status == 400 or answer.headers["allow"] == "GET, HEAD"


def test_a_body_that_never_comes_holds_nothing_up(served):
    assert served.get("/api/library", {"content-length": "1000000000"}).status == 200
    assert served.get("/api/library", {"transfer-encoding": "chunked"}, "POST").status == 405


def test_web_sockets_are_not_there(served):
    asked = {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-key": "a", "sec-websocket-version": "13"}
    assert served.get("/api/progress/x", asked).status == 404


def test_every_answer_carries_the_browsers_orders(served):
    id = id_of(served.library, "dog.mp4")
    for path in (
        "/", "/nothing", "/api/library", "/api/search?q=", "/api/search?top=x", "/static/page.css", f"/media/{id}",
        f"/thumbnail/{id}", f"/captions/{id}.vtt", f"/preview/{id}", f"/preview/{id}?start=99", "/openapi.json",
    ):  # fmt: skip
        headers = served.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'self'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == headers["cross-origin-opener-policy"] == "same-origin"
        assert "no-" in headers["cache-control"] or "private" in headers["cache-control"]
        assert "uvicorn" not in str(headers)
    assert served.get("/", {"host": "evil"}).headers["x-content-type-options"] == "nosniff"


# ---------------------------------------------------------------- token


@pytest.fixture(scope="module")
def guarded(opened):
    with serve(opened, TOKEN) as server:
        yield server


def cookie_of(guarded) -> str:
    return guarded.get(f"/?token={TOKEN}").headers["set-cookie"].split(";")[0]


def test_all_rooms_ask_for_the_token(guarded):
    id = id_of(guarded.library, "dog.mp4")
    rooms = ["/", "/nothing", "/api/library", "/api/search?q=dog", f"/api/files/{id}/along?q=a", f"/media/{id}"]
    rooms += [f"/thumbnail/{id}", f"/preview/{id}", f"/captions/{id}.vtt", "/api/progress", "/static/page.js"]
    for room in [*rooms, "/openapi.json"]:
        answer = guarded.get(room)
        assert answer.status == 401 and answer.headers["www-authenticate"] == "Bearer", room
        assert id not in answer.body.decode()
        for wrong in (
            "Bearer wrong",
            f"Basic {TOKEN}",
            f"Bearer {TOKEN}x",
            f"Bearer {TOKEN[:-1]}",
            "Bearer ",
            "Bearer \xe9",
        ):
            assert guarded.get(room, {"authorization": wrong.encode("latin-1")}).status == 401, wrong
    bearer, cookie = {"authorization": f"Bearer {TOKEN}"}, {"cookie": cookie_of(guarded)}
    for given in (bearer, cookie):
        assert guarded.get(f"/media/{id}", given).status == 200
        assert guarded.get("/api/search?q=dog", given).status == 200


def test_the_token_leaves_the_address_after_one_redirect(guarded):
    answer = guarded.get(f"/?q=a%26b&token={TOKEN}&mute=audio")
    assert (answer.status, answer.headers["location"]) == (303, "/?q=a%26b&mute=audio")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"save_jax_{guarded.port}=")
    assert "HttpOnly" in cookie and "SameSite=lax" in cookie and "Path=/" in cookie and "Domain" not in cookie
    assert TOKEN not in str(answer.headers) and TOKEN not in answer.body.decode()
    assert answer.headers["referrer-policy"] == "no-referrer" and answer.headers["cache-control"] == "no-store"
    assert guarded.get("/", {"cookie": cookie.split(";")[0]}).status in (200, 404)
    assert guarded.get(f"/?token={TOKEN}").headers["location"] == "/"


def test_people_without_a_token_get_a_sentence(guarded):
    for target in ("/", "/?token=wrong"):
        answer = guarded.get(target)
        assert answer.status == 401 and answer.headers["content-type"].startswith("text/html")
        assert b"oken" in answer.body and b"<p>" in answer.body
    assert "json" in guarded.get("/api/library").headers["content-type"]


def test_the_token_is_taken_in_one_place_alone(guarded):
    for target in (
        f"/api/library?token={TOKEN}", f"/media/x?token={TOKEN}", "/?token=", "/?token=wrong", f"/?token={TOKEN}%00",
        f"/?token=wrong&token={TOKEN}", f"/?Token={TOKEN}", f"//?token={TOKEN}", "/?token=%ff%fe",
    ):  # fmt: skip
        assert guarded.get(target).status == 401, target
    name = f"save_jax_{guarded.port}"
    for cookie in (f"{name}={TOKEN}", f"{name}=", f"save_jax_1={cookie_of(guarded).partition('=')[2]}", "=;=;", "\xff"):
        assert guarded.get("/api/library", {"cookie": cookie.encode("latin-1")}).status == 401, cookie


def test_a_token_for_one_address(opened):
    access = Access(token=TOKEN)
    once = access.once()
    assert once not in repr(access) and access.take_once(once) and not access.take_once(once)


def test_tokens_that_are_none():
    assert check_token(f" {TOKEN}\n", "x") == TOKEN
    for bad in ("", "short", "two words are no token at all", "\u00e9" * 20, "a" * 20 + "\n" + "b" * 20):
        with pytest.raises(ValueError, match="holds no token"):
            check_token(bad, "x")


def test_loopback():
    assert all(map(is_loopback, ("127.0.0.1", "127.1.2.3", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "", "192.168.1.1", "localhost.example", "127.0.0.1.example")))


# ---------------------------------------------------------------- how much


def test_long_addresses_and_heads_are_refused(served):
    assert served.get("/api/search?q=" + "a" * 33_000).status == 414
    assert served.get("/api/search?q=" + "a" * 1_000_000).status in (0, 400)
    assert served.get("/" + "a" * 1_000_000).status in (0, 400)
    assert served.get("/api/library", {"x": "a" * 1_000_000}).status in (0, 400)
    assert served.get("/api/library").status == 200


def test_too_many_searches_wait(opened):
    with serve(opened, limits=Limits(searches=2, burst=3)) as server:
        id = id_of(opened, "dog.mp4")
        statuses = [server.get(f"/api/files/{id}/along?q=dog").status for _ in range(3)]
        assert statuses == [200] * 3
        answer = server.get("/api/search?q=dog")
        assert answer.status == 429 and answer.headers["retry-after"] == "1"
        assert server.get("/api/library").status == 200
        time.sleep(0.7)
        assert server.get("/api/search?q=dog").status == 200


def test_too_many_streams_wait_and_end(opened):
    with serve(opened, limits=Limits(1000, 1000, films=1, events=4, events_of_one=3)) as server:

        def listen():
            connection = server.connect()
            connection.sendall(f"GET /api/progress HTTP/1.1\r\nhost: 127.0.0.1:{server.port}\r\n\r\n".encode())
            assert b"200 OK" in connection.recv(1 << 16)
            return connection

        streams = [listen() for _ in range(3)]
        answer = server.get("/api/progress")
        assert answer.status == 503 and answer.headers["retry-after"]
        assert server.get(f"/media/{id_of(opened, 'dog.mp4')}").status == 200  # films have a count of their own
        assert server.get("/api/search?q=dog").status == 200
        streams.pop().close()
        deadline = time.monotonic() + 60
        while len(streams) < 3 and time.monotonic() < deadline:
            with contextlib.suppress(AssertionError):
                streams.append(listen())
        assert len(streams) == 3
        for stream in streams:
            stream.close()


def test_a_line_is_bounded_and_nobody_stands_in_it_who_left(opened, monkeypatch):
    """Thumbnails of which the first two last: of those behind them, who left is not drawn, and who stays is."""
    drawn, go_on, real = [], threading.Event(), pictures.thumbnail

    def thumbnail(path, second, *rest):
        drawn.append(second)
        go_on.wait(20)
        return real(path, second, *rest)

    monkeypatch.setattr(pictures, "thumbnail", thumbnail)
    monkeypatch.setattr(app, "_LINE", 5)
    with serve(opened) as server:
        address = f"/thumbnail/{id_of(opened, 'dog.mp4')}?at="

        def ask(second):
            connection = server.connect()
            head = f"GET {address}{second} HTTP/1.1\r\nhost: 127.0.0.1:{server.port}\r\n\r\n"
            connection.sendall(head.encode())
            return connection

        first = [ask(0.1), ask(0.2)]
        deadline = time.monotonic() + 60
        while len(drawn) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        later = [ask(0.3), ask(0.4)]
        stays = ask(0.5)
        time.sleep(0.3)
        answer = server.get(address + "0.6")
        assert answer.status == 503 and answer.headers["retry-after"]
        assert server.get("/api/search?q=dog").status == 200
        for connection in later:
            connection.close()
        time.sleep(0.6)
        go_on.set()
        assert b"200 OK" in stays.recv(1 << 16)
        assert sorted(drawn) == [0.1, 0.2, 0.5]
        for connection in [*first, stays]:
            connection.close()


def test_searches_at_once_answer_as_one_by_one(served):
    wanted = [hit["id"] for hit in served.get("/api/search?q=red+car").json()["hits"]]
    found: list = []
    threads = [
        threading.Thread(target=lambda: found.append(served.get("/api/search?q=red+car").json()["hits"]))
        for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [[hit["id"] for hit in hits] for hits in found] == [wanted] * 20
