"""Where previews are kept, and for whom they are made."""

import os
import time

import pytest
from helpers import media
from helpers.server import id_of, index_plainly, serve

from save_jax.search.server import encoding, previews
from save_jax.search.server.previews import Previews


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """A library of two films that no browser plays."""
    root = tmp_path_factory.mktemp("previews") / "root"
    root.mkdir()
    for name in ("a.mkv", "b.mkv"):
        media.write_media(root / name, [media.numbered(k) for k in range(100)], fps=20, codec="mpeg4")
    return index_plainly(root.parent / "index", root)


def until(holds) -> bool:
    deadline = time.monotonic() + 60
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.02)
    return holds()


def test_a_link_in_a_strangers_index_costs_no_video(films, tmp_path):
    """`INDEX/previews`, and a folder of previews, that lead to the user's own films; a limit that is soon reached."""
    own = tmp_path / "own"
    own.mkdir()
    for name in ("holiday.mp4", "half.part", "0" * 31 + ".mp4", "0" * 32 + ".mp4"):
        (own / name).write_bytes(b"x" * 100_000)
        os.utime(own / name, (0, 0))
    before = sorted(os.listdir(own))
    (tmp_path / "previews").symlink_to(own)
    with serve(films, films=Previews(str(tmp_path / "previews"), limit=60_000)) as server:
        assert server.get(f"/preview/{id_of(films, 'a.mkv')}?end=2").status == 200
        assert sorted(os.listdir(own)) == before
    link = os.path.join(films.store.folder, "previews")
    os.symlink(own, link)
    try:
        with serve(films) as server:
            assert server.get(f"/preview/{id_of(films, 'a.mkv')}?end=2").status == 200
    finally:
        os.unlink(link)
    assert sorted(os.listdir(own)) == before


def test_other_files_in_the_folder_are_neither_counted_nor_removed(films, tmp_path):
    for name in ("holiday.mp4", "half.part"):
        (tmp_path / name).write_bytes(b"x" * 100_000)
        os.utime(tmp_path / name, (0, 0))
    kept = Previews(str(tmp_path), limit=60_000)
    with serve(films, films=kept) as server:
        for start in range(3):
            assert server.get(f"/preview/{id_of(films, 'a.mkv')}?start={start}&end={start + 2}").status == 200
    assert {"holiday.mp4", "half.part"} < set(os.listdir(tmp_path))


def test_previews_that_came_with_an_index_are_not_played(films, cache):
    assert previews.folder_of(films.store.folder).startswith(str(cache))


def test_what_another_server_writes_is_left(tmp_path):
    now, old = (tmp_path / f"{letter * 32}.mp4.1.2.part" for letter in "ab")
    for path in (now, old):
        path.write_bytes(b"x")
    os.utime(old, (time.time() - encoding.PATIENCE - 5,) * 2)
    Previews(str(tmp_path))
    assert os.listdir(tmp_path) == [now.name]


def test_what_nobody_waits_for_is_not_made(films, tmp_path, monkeypatch):
    begun, ended = [], []

    def encode(path, target, start, end, stopped, duration):
        begun.append(start)
        while not stopped():
            time.sleep(0.01)
        ended.append(start)
        raise InterruptedError

    monkeypatch.setattr(encoding, "encode", encode)
    kept = Previews(str(tmp_path / "previews"), at_once=1)
    with serve(films, films=kept) as server:
        id = id_of(films, "a.mkv")

        def ask(start):
            connection = server.connect()
            connection.sendall(
                f"GET /preview/{id}?start={start}&end=4 HTTP/1.1\r\nhost: 127.0.0.1:{server.port}\r\n\r\n".encode()
            )
            return connection

        asked = [ask(1), ask(1)]
        assert until(lambda: begun == [1.0])
        asked += [ask(k) for k in (0.2, 0.3, 0.4)]
        assert until(lambda: len(kept._films) == 4)
        answer = server.get(f"/preview/{id_of(films, 'b.mkv')}?end=2")
        assert answer.status == 503 and answer.headers["retry-after"]  # four films for one client
        for connection in (asked[0], *asked[2:]):
            connection.close()
        assert until(lambda: len(kept._films) == 1)
        assert not ended  # somebody else waits for it
        asked[1].close()
        assert until(lambda: ended == [1.0] and not kept._films)
        assert begun == [1.0]


def test_no_preview_outlives_its_file(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    media.write_media(root / "a.mkv", [media.numbered(k) for k in range(40)], fps=20, codec="mpeg4")
    library = index_plainly(tmp_path / "index", root)
    with serve(library) as server:
        address = f"/preview/{id_of(library, 'a.mkv')}?end=1"
        assert server.get(address).status == 200
        (root / "a.mkv").unlink()
        assert server.get(address).status == 410


def test_a_film_that_takes_too_long_says_so(films, tmp_path, monkeypatch):
    monkeypatch.setattr(encoding, "PATIENCE", -1.0)
    with serve(films, films=Previews(str(tmp_path / "previews"))) as server:
        answer = server.get(f"/preview/{id_of(films, 'a.mkv')}?end=1")
        assert answer.status == 504 and "too long" in answer.json()["detail"]
