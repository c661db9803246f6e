"""An index that is written while it is asked, an indexer that tells how far it is, and folders that come and go."""

import json
import os
import subprocess
import sys
import threading
import time

import pytest
from helpers import library as made
from helpers.server import PATIENCE, id_of, serve

from save_jax.search import library as library_module
from save_jax.search import progress
from save_jax.search.server import damage
from save_jax.search.store import Store


class Events:
    """Server-sent events, one by one."""

    def __init__(self, server):
        self._connection = server.connect()
        self._connection.sendall(f"GET /api/progress HTTP/1.1\r\nhost: 127.0.0.1:{server.port}\r\n\r\n".encode())
        self._received = b""

    def next(self) -> tuple[str, dict]:
        while True:
            head, found, rest = self._received.partition(b"\n\n")
            if found:
                self._received = rest
                lines = [line for line in head.decode().splitlines() if line.startswith(("event: ", "data: "))]
                if lines:
                    return lines[0].removeprefix("event: "), json.loads(lines[1].removeprefix("data: "))
                continue
            received = self._connection.recv(1 << 16)
            assert received
            self._received += received

    def until(self, wanted) -> list[tuple[str, dict]]:
        """All events up to one of which it holds."""
        seen, deadline = [], time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            seen.append(self.next())
            if wanted(*seen[-1]):
                return seen
        raise AssertionError(seen)

    def close(self):
        self._connection.close()


def test_an_index_that_is_written_answers_every_question(tmp_path, embedder):
    root = tmp_path / "mine"
    made.write_video(root / "a.mp4", 2, 1, ["a red car"])
    library = made.make_library(tmp_path / "lib", embedder, root)
    with serve(library) as server:
        stop, answers = threading.Event(), []

        def ask():
            while not stop.is_set():
                for room in ("/api/search?q=red+car", f"/thumbnail/{id}", f"/captions/{id}.vtt", "/api/library"):
                    answers.append((room, server.get(room).status))

        id = id_of(library, "a.mp4")
        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        writer = Store.open(str(tmp_path / "lib"))
        for number in range(4):
            made.write_video(root / f"b{number}.mp4", 2, number + 2, ["a blue boat"])
            made.update(writer, embedder)
        stop.set()
        for thread in threads:
            thread.join()
        assert {status for _, status in answers} == {200}, [x for x in answers if x[1] != 200]
        assert server.get("/api/library").json()["files"] == 5
        assert len(server.get("/api/search?q=blue&top=9").json()["hits"]) == 5


def test_news_of_an_index_are_sent(plain, tmp_path):
    library, root = plain(a=b"a" * 50)
    with serve(library) as server:
        events = Events(server)
        kind, about = events.next()
        assert kind == "library" and about["files"] == 1 and about["indexing"] is None
        (root / "a" / "b.mp4").write_bytes(b"b" * 50)
        made.settle(root / "a" / "b.mp4")
        made.update_plainly(tmp_path / "index", root)
        *_, (_, later) = events.until(lambda kind, data: kind == "library" and data["files"] == 2)
        assert later["version"] != about["version"]
        with progress.telling(library.store.folder, 1000) as tell:
            tell(250, "root/a/\u202e<b>.mp4")
            seen = events.until(lambda kind, data: kind == "progress" and data["done"] == 250)
            assert seen[-1][1] | {"seconds_left": 0} == {
                "done": 250, "total": 1000, "unit": "B", "seconds_left": 0, "file": "root/a/\u202e<b>.mp4",
            }  # fmt: skip
            assert any(kind == "library" and data["indexing"] for kind, data in seen)
        *_, (_, last) = events.until(lambda kind, data: kind == "library" and data["indexing"] is None)
        assert last["files"] == 2
        events.close()


def test_progress_is_there_while_an_indexer_runs(tmp_path):
    root, seen = tmp_path / "root", []
    root.mkdir()
    for name in "abc":
        (root / f"{name}.mp4").write_bytes(name.encode() * 100)
        made.settle(root / f"{name}.mp4")

    def embed(files):
        for rows in made.embed_plainly(files):
            deadline = time.monotonic() + 60
            while (now := progress.read(str(tmp_path / "index"))) is None and time.monotonic() < deadline:
                time.sleep(0.01)
            seen.append(now)
            yield rows

    from save_jax.search import indexing

    store = Store.create(str(tmp_path / "index"), made.NoModel(), made.CUT)
    change = indexing.with_folders([str(root)])
    indexing.update(store, made.NoModel(), made.SILENT, 1, progress=False, embed=embed, change=change)
    assert seen[0]["total"] == 300 and seen[0]["seconds_left"] is None
    assert progress.read(str(tmp_path / "index")) is None
    assert not [name for name in os.listdir(tmp_path / "index") if name.startswith(progress.NAME)]


def test_what_a_killed_indexer_left_is_passed_over(tmp_path):
    code = (
        "import os, sys, time; from save_jax.search import progress\n"
        "with progress.telling(sys.argv[1], 100) as tell:\n"
        "    tell(50, 'x'); time.sleep(1.5); print('there', flush=True); time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "there\n"
    assert progress.read(str(tmp_path))["done"] == 50
    process.kill()
    process.wait()
    assert (tmp_path / progress.NAME).exists() and progress.read(str(tmp_path)) is None
    written = json.loads((tmp_path / progress.NAME).read_text())
    alive = written | {"pid": os.getpid()}
    for changed, there in ((alive, True), (alive | {"time": time.time() - 60}, False), (alive | {"host": "x"}, True)):
        (tmp_path / progress.NAME).write_text(json.dumps(changed))
        assert (progress.read(str(tmp_path)) is not None) == there
    for damaged in ("", "[]", "{}", "{", '{"pid": "x"}', "\xff"):
        (tmp_path / progress.NAME).write_text(damaged)
        assert progress.read(str(tmp_path)) is None


def test_a_folder_that_cannot_be_written_hides_progress_alone(tmp_path):
    with progress.telling(str(tmp_path / "nothing"), 10) as tell:
        tell(5, "x")


def test_a_root_that_goes_away_and_comes_back(tmp_path, embedder):
    root = tmp_path / "mine"
    made.write_video(root / "a.mp4", 2, 1, ["a red car"])
    library = made.make_library(tmp_path / "lib", embedder, root)
    with serve(library) as server:
        [hit] = server.get("/api/search?q=red+car").json()["hits"]
        assert hit["there"] and hit["plays"] == "direct"
        os.rename(root, tmp_path / "away")
        time.sleep(library_module._LOOK_AGAIN)
        found = server.get("/api/search?q=red+car").json()
        assert found["offline"] == ["mine"] == server.get("/api/library").json()["offline"]
        [gone] = found["hits"]
        assert (gone["there"], gone["plays"], gone["id"]) == (False, "no", hit["id"])
        assert server.get(hit["media"]).status == 410
        thumbnail = server.get(hit["thumbnail"])
        assert thumbnail.status == 200 and thumbnail.body[:2] == b"\xff\xd8"  # what the index kept
        assert server.get(hit["captions"]).status == 200
        os.rename(tmp_path / "away", root)
        assert server.get(hit["media"]).status == 200
        assert server.get("/api/search?q=red+car").json()["hits"] == [hit]


def remove(folder):
    for inner, _, names in os.walk(folder):
        for name in names:
            os.unlink(os.path.join(inner, name))


@pytest.mark.parametrize("part", ["files.lance", "windows.lance/data"])
def test_an_index_that_is_damaged_while_it_is_served_says_so(tmp_path, embedder, capsys, part):
    root = tmp_path / "mine"
    made.write_video(root / "a.mp4", 2, 1, ["a red car"])
    library = made.make_library(tmp_path / "lib", embedder, root)
    with serve(library) as server:
        id = id_of(library, "a.mp4")
        assert server.get("/api/library").status == 200
        events = Events(server)
        events.next()
        os.rename(root, tmp_path / "away")
        remove(tmp_path / "lib" / part)
        rooms = [f"/thumbnail/{id}"]  # the picture lies in the windows' rows
        if not part.endswith("data"):
            rooms += ["/api/library", "/api/search?q=car", f"/api/files/{id}/along?q=car", f"/captions/{id}.vtt"]
            rooms += [f"/media/{id}", f"/preview/{id}"]
        for room in rooms:
            answer = server.get(room)
            assert answer.status == 500 and answer.json() == {"detail": damage.SENTENCE}, (room, answer)
        assert server.get("/").status == 200
        if not part.endswith("data"):
            with pytest.raises(AssertionError):  # the news end, and nothing is said of it
                events.until(lambda kind, data: False)
        events.close()
    said = capsys.readouterr().err
    assert said.count(damage.SENTENCE) == 1 and "Traceback" not in said and "Exception in ASGI" not in said


def test_an_empty_index_is_served(tmp_path, embedder):
    (tmp_path / "mine").mkdir()
    with serve(made.make_library(tmp_path / "lib", embedder, tmp_path / "mine")) as server:
        assert server.get("/api/library").json()["files"] == 0
        assert server.get("/api/search?q=dog").json()["hits"] == []
