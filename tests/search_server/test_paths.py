"""No address and no link leads out of the index: only what was indexed is sent, as it was."""

import os
import shutil
import socket
import threading

import pytest
from helpers import library as made
from helpers.server import id_of, serve

from save_jax.search.server.answers import file_id

CANARY = b"the canary sings outside of the root"
NO_FILE = {"detail": "no such file in this index"}
GONE = {"detail": "the file is not there any more"}


@pytest.mark.parametrize("room", ["/media/", "/thumbnail/", "/preview/", "/captions/", "/static/", "/api/files/", "/"])
@pytest.mark.parametrize(
    "way",
    [
        "../../outside.mp4", "%2e%2e/%2e%2e/outside.mp4", "%252e%252e%252foutside.mp4", "..%2f..%2foutside.mp4",
        "..\\..\\outside.mp4", "..%5c..%5coutside.mp4", "%00", "a.mp4%00.vtt", "/etc/passwd", "%2fetc%2fpasswd",
        "C:%5cWindows%5cwin.ini", "%5c%5chost%5cshare%5ca.mp4", "//host/share", "root/a/inside.mp4", "app.py",
        "page.html", "..%c0%af..%c0%afoutside.mp4", "%ff%fe",
    ],
)  # fmt: skip
def test_no_address_is_a_path(served, room, way):
    answer = served.get(room + way)
    assert answer.status in (400, 404), answer
    assert b"root:" not in answer.body and b"import" not in answer.body


def test_foreign_schemes_and_hosts_in_the_address(served):
    for target in (b"http://evil.example/api/library", b"file:///etc/passwd", b"*", b"//evil.example/", b"\\etc", b""):
        answer = served.get(target)
        assert answer.status in (0, 400, 404), (target, answer)


def test_outside_unindexed_and_deleted_answer_alike(plain):
    library, root = plain(kept=b"kept " * 9, gone=b"gone " * 9)
    (root / "a" / "new.mp4").write_bytes(b"not indexed")
    with serve(library) as server:
        gone = id_of(library, "gone.mp4")
        (root / "a" / "gone.mp4").unlink()
        assert server.get(f"/media/{gone}").status == 410  # it is indexed, and not there
        made.update_plainly(root.parent / "index", root)
        asked = [gone, file_id("root/a/new.mp4"), file_id("root/../outside.mp4"), "0" * 24, "x"]
        made.settle(root / "a" / "new.mp4")
        for room in ("/media/{}", "/thumbnail/{}", "/preview/{}", "/captions/{}.vtt", "/api/files/{}/along?q=a"):
            answers = [server.get(room.format(id)) for id in asked if id != file_id("root/a/new.mp4")]
            assert {(x.status, x.body) for x in answers} == {(404, answers[0].body)} and answers[0].json() == NO_FILE
        assert server.get(f"/media/{id_of(library, 'kept.mp4')}").body == b"kept " * 9


def _outside(root) -> str:
    outside = root.parent / "outside.mp4"
    outside.write_bytes(CANARY)
    return str(outside)


@pytest.mark.parametrize(
    "path",
    [
        "../outside.mp4", "a/../../outside.mp4", "{outside}", "/{outside}", "a/link.mp4", "linked/outside.mp4",
        "a//../../outside.mp4", "./../outside.mp4", "a/x\0.mp4", "", ".", "a", "a/\\xff/../../../outside.mp4", "a/..",
    ],
)  # fmt: skip
def test_the_index_of_a_stranger_leads_nowhere(plain, path):
    """Its rows name what lies outside, with the size and time that it has, and links that were there before."""
    library, root = plain(inside=b"inside " * 9)
    outside = _outside(root)
    os.symlink(outside, root / "a" / "link.mp4")
    os.symlink(root.parent, root / "linked")
    about = os.stat(outside)
    [row] = library.store.file_rows()
    row |= {"path": path.format(outside=outside), "size": about.st_size, "modified": about.st_mtime_ns}
    library.store.put_files([row])
    with serve(library) as server:
        id = id_of(library, "inside.mp4")
        answer = server.get(f"/media/{id}")
        assert answer.status == 410 and answer.json() == GONE
        assert server.get(f"/preview/{id}").status == 410
        assert server.get(f"/thumbnail/{id}").status == 200  # what the index kept of it
        assert CANARY not in server.get(f"/thumbnail/{id}").body


def test_a_root_of_a_stranger_sends_nothing_but_films_of_the_index(plain, tmp_path):
    library, root = plain(inside=b"inside " * 9)
    about = os.stat("/etc/passwd")
    [row] = library.store.file_rows()
    library.store.put_files([row | {"path": "etc/passwd", "size": about.st_size, "modified": about.st_mtime_ns}])
    for folder in ("/", "", ".", "etc", str(root)):
        library.store.about.roots["root"] = folder
        with serve(library) as server:
            assert server.get(f"/media/{id_of(library, 'inside.mp4')}").status == 410


def _link(path, outside):
    os.symlink(outside, path)


def _hard_link(path, outside):
    with open(outside, "wb") as file:
        file.write(b"x" * 63)  # of the very size
    os.link(outside, path)


def _folder(path, outside):
    path.mkdir()


def _pipe(path, outside):
    os.mkfifo(path)


def _socket(path, outside):
    here = os.getcwd()
    os.chdir(path.parent)  # its address must be short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def _device(path, outside):
    try:
        os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))  # /dev/zero
    except PermissionError:
        pytest.skip("only the system's administrator makes devices")


def _other_content(path, outside):
    path.write_bytes(b"y" * 63)


@pytest.mark.parametrize("put", [_link, _hard_link, _folder, _pipe, _socket, _device, _other_content])
def test_what_takes_a_files_place_after_indexing_is_not_sent(plain, put):
    library, root = plain(film=b"x" * 63)
    outside, path = _outside(root), root / "a" / "film.mp4"
    with serve(library) as server:
        id = id_of(library, "film.mp4")
        assert server.get(f"/media/{id}").body == b"x" * 63
        path.unlink()
        put(path, outside)
        for room in ("/media/", "/preview/"):
            answer = server.get(room + id)  # and none waits for the other end of a pipe
            assert answer.status == 410 and CANARY not in answer.body, answer
        assert server.get(f"/thumbnail/{id}").status == 200


def test_a_folder_that_became_a_link_is_not_followed(plain):
    library, root = plain(film=b"x" * 63)
    with serve(library) as server:
        id = id_of(library, "film.mp4")
        shutil.move(root / "a", root.parent / "elsewhere")
        os.symlink(root.parent / "elsewhere", root / "a")
        assert server.get(f"/media/{id}").status == 410


def test_a_file_that_is_exchanged_all_the_time_is_itself_or_gone(plain):
    library, root = plain(film=b"x" * 63)
    path, outside, stop = root / "a" / "film.mp4", _outside(root), threading.Event()
    os.link(path, root.parent / "kept")

    def exchange():
        number = 0
        while not stop.is_set():
            number += 1
            new = root / f"new{number % 2}"
            os.symlink(outside, new) if number % 2 else os.link(root.parent / "kept", new)
            os.replace(new, path)
            if os.path.lexists(new):  # of one file under two names, a system removes neither
                os.unlink(new)

    thread = threading.Thread(target=exchange)
    thread.start()
    try:
        with serve(library) as server:
            id = id_of(library, "film.mp4")
            answers = [server.get(f"/media/{id}") for _ in range(150)]
    finally:
        stop.set()
        thread.join()
    assert {(x.status, x.body) for x in answers if x.status == 200} <= {(200, b"x" * 63)}
    assert {x.status for x in answers} <= {200, 410}
