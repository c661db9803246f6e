"""Folders that are followed, by what the system tells of their changes."""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from helpers.library import environment, names, settle, update_plainly

from save_jax.search import watching
from save_jax.search.indexing import Summary
from save_jax.search.store import LibraryError, Store

FOLLOW = """
import sys
from pathlib import Path
from helpers.library import update_plainly
from save_jax.search import watching
lib, root = map(Path, sys.argv[1:])
update_plainly(lib, root)
print("ready", flush=True)
watching.follow(lambda: [str(root)], str(lib), lambda: update_plainly(lib, root), look=0.3, debounce=100, settle=0)
print("ended")
"""


def wait_for(done, seconds=60):
    until = time.monotonic() + seconds
    while not (found := done()) and time.monotonic() < until:
        time.sleep(0.05)
    return found


def write(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(path.name)
    settle(path)


def test_a_new_file_is_indexed_and_ctrl_c_ends(tmp_path):
    root, lib = tmp_path / "root", tmp_path / "lib"
    write(root / "a.mp4")
    process = subprocess.Popen(
        [sys.executable, "-c", FOLLOW, str(lib), str(root)], env=environment(), stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout and process.stdout.readline() == "ready\n"
        write(root / "sub" / "b.mp4")
        assert wait_for(lambda: names(Store.open(str(lib))) == ["root/a.mp4", "root/sub/b.mp4"])
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60)[0] == "ended\n" and process.returncode == 0
    finally:
        process.kill()


@pytest.fixture
def followed(request):
    """`followed(folders, index, turn)` runs in a thread until the test ends."""
    stop = threading.Event()

    def begin(folders, index, turn):
        def run():
            watching.follow(folders, str(index), turn, stop, look=0.3, debounce=100, settle=0)

        thread = threading.Thread(target=run, daemon=True)
        request.addfinalizer(lambda: (stop.set(), thread.join(30)))
        thread.start()

    return begin


def test_an_index_within_a_followed_folder_is_no_change(tmp_path, followed):
    root, turns = tmp_path / "root", []
    lib = root / "library"
    write(root / "a.mp4")
    update_plainly(lib, root)

    def turn():
        turns.append(update_plainly(lib, root))
        return turns[-1]

    followed(lambda: [str(root)], lib, turn)
    assert wait_for(lambda: len(turns) == 1)
    write(root / "b.mp4")
    assert wait_for(lambda: any(summary.embedded for summary in turns))
    count = len(turns)
    assert not wait_for(lambda: len(turns) > count + 1, 1.5)  # a file's own events may come in two turns


def test_a_folder_that_comes_is_read_and_followed(tmp_path, followed):
    """None of its files is taken for gone, nor ends the others' watch."""
    lib, roots, turns = tmp_path / "lib", [tmp_path / "one", tmp_path / "two"], []
    for folder in roots:
        write(folder / f"{folder.name}.mp4")
        update_plainly(lib, folder)
    away = roots[1].rename(tmp_path / "away")
    followed(lambda: [*map(str, roots)], lib, lambda: turns.append(update_plainly(lib, roots[0])) or turns[-1])
    assert wait_for(lambda: len(turns) == 1)
    assert turns[0].offline == ["two"]
    write(away / "new.mp4")
    away.rename(roots[1])
    assert wait_for(lambda: "two/new.mp4" in names(Store.open(str(lib))))
    write(roots[1] / "newer.mp4")
    assert wait_for(lambda: "two/newer.mp4" in names(Store.open(str(lib))))


def test_a_turn_that_cannot_be_made_is_made_again(tmp_path, followed, capsys):
    """Another process writes for a moment; nothing changes afterwards."""
    root, lib, turns = tmp_path / "root", tmp_path / "lib", []
    write(root / "a.mp4")
    update_plainly(lib, root)
    write(root / "b.mp4")

    def turn():
        turns.append(None)
        return update_plainly(lib, root)

    with Store.open(str(lib)).writing():
        followed(lambda: [str(root)], lib, turn)
        assert wait_for(lambda: len(turns) > 1)
    assert wait_for(lambda: len(names(Store.open(str(lib)))) == 2)
    assert "is being written by another process" in capsys.readouterr().err


def test_a_turn_that_was_stopped_ends_it(tmp_path):
    write(tmp_path / "a.mp4")
    turns = []

    def turn():
        turns.append(1)
        if len(turns) == 1:
            raise LibraryError("not now")
        return Summary(growing=["a"]) if len(turns) == 2 else Summary(stopped=True)

    watching.follow(lambda: [str(tmp_path)], str(tmp_path / "lib"), turn, look=0.05, debounce=50, settle=0)
    assert len(turns) == 3
