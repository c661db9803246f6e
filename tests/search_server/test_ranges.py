"""Ranges of a film, as RFC 9110 has them: what is no range is answered with the whole, what lies behind it with 416."""

import pytest
from helpers.server import id_of, index_plainly, serve

WHOLE = bytes(range(200))
SIZE = len(WHOLE)


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """(server, address)"""
    root = tmp_path_factory.mktemp("ranges") / "root"
    root.mkdir()
    (root / "a.mp4").write_bytes(WHOLE)
    library = index_plainly(root.parent / "index", root)
    with serve(library) as server:
        yield server, f"/media/{id_of(library, 'a.mp4')}"


@pytest.mark.parametrize(
    ("asked", "begin", "end"),
    [
        ("bytes=0-0", 0, 1), ("bytes=0-99", 0, 100), ("bytes=10-", 10, SIZE), ("bytes=-5", SIZE - 5, SIZE),
        ("bytes=-500", 0, SIZE), ("bytes=190-1000000000000", 190, SIZE), (" bytes=3-4 ", 3, 5), ("bytes=007-008", 7, 9),
    ],
)  # fmt: skip
def test_one_range(film, asked, begin, end):
    server, address = film
    answer = server.get(address, {"range": asked})
    assert (answer.status, answer.body) == (206, WHOLE[begin:end])
    assert answer.headers["content-range"] == f"bytes {begin}-{end - 1}/{SIZE}"
    assert int(answer.headers["content-length"]) == end - begin and answer.headers["accept-ranges"] == "bytes"


@pytest.mark.parametrize("asked", [f"bytes={SIZE}-", "bytes=1000-2000", "bytes=-0", "bytes=200-200"])
def test_a_range_behind_the_end(film, asked):
    server, address = film
    answer = server.get(address, {"range": asked})
    assert (answer.status, answer.body) == (416, b"") and answer.headers["content-range"] == f"bytes */{SIZE}"


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=9-3", "bytes=-", "bytes=", "bytes", "", "items=0-5", "bytes=1_0-2_0", "bytes=+1-5", "bytes=0x1-0x5",
        "bytes=1.0-5", "bytes=a-b", "bytes=--5", "bytes=0-5-9", "bytes=0-4,9-12", "bytes=0-5;x=1", "bytes= 1 - 5",
        "bytes=" + ",".join(f"{k}-{k}" for k in range(101)), "bytes=0-" + "9" * 5000, "bytes=" + "1" * 5000 + "-",
        "bytes=" + ",".join(["0-"] * 1000),
        "bytes=\u0661-\u0665".encode(), "bytes=\uff11-\uff15".encode(), b"bytes=\xb2-\xb3", "bytes=0-5, bytes=7-9",
    ],
)  # fmt: skip
def test_what_is_no_single_range_is_passed_over(film, asked):
    server, address = film
    answer = server.get(address, {"range": asked})
    assert (answer.status, answer.body) == (200, WHOLE), answer


def test_versions_of_a_file(film):
    server, address = film
    tag = server.get(address).headers["etag"]
    assert tag.startswith('"') and tag.endswith('"')
    part = {"range": "bytes=5-9"}
    assert server.get(address, {"if-range": tag, **part}).body == WHOLE[5:10]
    for stale in ('"old"', f"W/{tag}", "Wed, 21 Oct 2015 07:28:00 GMT", ""):
        answer = server.get(address, {"if-range": stale, **part})
        assert (answer.status, answer.body) == (200, WHOLE), stale
    assert server.get(address, {"if-none-match": f'"x", {tag}'}).status == 304
    assert server.get(address, {"if-none-match": '"x"'}).status == 200


def test_two_range_headers_and_head(film):
    server, address = film
    head = f"GET {address} HTTP/1.1\r\nhost: 127.0.0.1:{server.port}\r\nrange: bytes=0-1\r\nrange: bytes=5-6".encode()
    assert server.send(head).body == WHOLE
    answer = server.get(address, {"range": "bytes=0-9"}, "HEAD")
    assert (answer.status, answer.body, answer.headers["content-length"]) == (206, b"", "10")
    answer = server.get(address, method="HEAD")
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", str(SIZE))


def test_a_film_is_what_its_first_bytes_are(tmp_path):
    """Pages, pictures with scripts and playlists under a film's name are sent as bytes that no browser shows."""
    root = tmp_path / "root"
    root.mkdir()
    heads = {
        "html": b"<!doctype html><script>alert(1)</script>",
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
        "playlist": b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
        "film": b"\0\0\0\x20ftypisom" + bytes(40),
        "both": b"<!--ftyp--><script>alert(1)</script>",
    }
    for name, head in heads.items():
        (root / f"{name}.mp4").write_bytes(head)
    library = index_plainly(tmp_path / "index", root)
    with serve(library) as server:
        for name, head in heads.items():
            answer = server.get(f"/media/{id_of(library, f'{name}.mp4')}")
            wanted = "video/mp4" if name in ("film", "both") else "application/octet-stream"
            assert (answer.status, answer.body, answer.headers["content-type"]) == (200, head, wanted)
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert "default-src 'self'" in answer.headers["content-security-policy"]
