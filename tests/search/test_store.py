"""The index as a folder: what is refused, who may write, and what a killed writer leaves."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import library
from helpers.library import NoModel, contents, environment, names, plain_rows, settle, update_plainly

from save_jax.search import checks, indexing, ranking, roots, words
from save_jax.search.library import Library
from save_jax.search.roots import Found
from save_jax.search.store import ABOUT, SCHEMA, LibraryError, Store, size_of
from save_jax.search.windows import Cut


@pytest.fixture
def root(tmp_path):
    fill(tmp_path / "root", 3)
    return tmp_path / "root"


def fill(root, count):
    root.mkdir(exist_ok=True)
    for number in range(count):
        (root / f"{number:03d}.mp4").write_text(f"file {number}")
        settle(root / f"{number:03d}.mp4")


def test_another_form_is_refused(lib):
    about = json.loads((lib / ABOUT).read_text())
    del about["hop"]  # another form may have other fields as well
    (lib / ABOUT).write_text(json.dumps(about | {"schema": SCHEMA + 1}))
    with pytest.raises(LibraryError, match=rf"form {SCHEMA + 1}, .* reads form {SCHEMA}; index into a new folder"):
        Store.open(str(lib))


def test_another_model_is_refused(opened, tmp_path):
    other = library.make_embedder(tmp_path, seed=1, name="runs/other")
    with pytest.raises(LibraryError) as caught:
        Library(Store.open(opened.store.folder), other)
    message = str(caught.value)
    for part in ("random", opened.embedder.digest[:12], "runs/other", other.digest[:12], "--model", "another folder"):
        assert part in message
    with pytest.raises(LibraryError, match="has other parameters"):
        library.update(Store.open(opened.store.folder), other)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"schema": 2}', b"\xff\xfe"])
def test_a_damaged_description_is_told(lib, text):
    (lib / ABOUT).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(LibraryError, match=r"library\.json is damaged .*; index into a new folder"):
        Store.open(str(lib))
    [check] = checks.run(str(lib))
    assert not check.fine and "damaged" in check.what


def test_folders_that_are_no_index(tmp_path, lib):
    with pytest.raises(LibraryError, match=r"is no index: it has no library\.json; make one with"):
        Store.open(str(tmp_path))
    with pytest.raises(LibraryError, match="is not empty and no index"):
        Store.create(str(tmp_path), NoModel(), Cut())
    with pytest.raises(LibraryError, match=f"is an index already, of {tmp_path / 'root'}; choose a new folder"):
        Store.create(str(lib), NoModel(), Cut())
    new = tmp_path / "new"
    new.mkdir()
    for name in (".DS_Store", "desktop.ini"):  # file managers put them there
        (new / name).touch()
    Store.create(str(new), NoModel(), Cut())
    with pytest.raises(LibraryError, match="is an index already, of nothing"):
        Store.create(str(new), NoModel(), Cut())
    for name in os.listdir(lib / "windows.lance" / "_versions"):
        (lib / "windows.lance" / "_versions" / name).unlink()
    with pytest.raises(LibraryError, match=r"cannot be read .*; index into a new folder"):
        Store.open(str(lib))


def test_rows_that_are_gone_are_told(lib):
    store = Store.open(str(lib))
    for name in os.listdir(lib / "windows.lance" / "data"):
        (lib / "windows.lance" / "data" / name).unlink()
    with pytest.raises(LibraryError, match=r"is damaged .*; index into a new folder"):
        ranking.view(store)


def test_a_version_that_goes_while_the_latest_is_looked_up_is_no_error(lib, monkeypatch):
    """A writer may clean up twice while one reads."""
    store, refresh, tries = Store.open(str(lib)), Store.refresh, []

    def read():
        tries.append(1)
        if len(tries) == 1:
            raise RuntimeError("Not found: a file of an earlier version")
        return store.files.count_rows()

    def unlucky(self):
        monkeypatch.setattr(Store, "refresh", refresh)
        raise RuntimeError("Not found: a version")

    monkeypatch.setattr(Store, "refresh", unlucky)
    assert store.reading(read) == 3 and len(tries) == 2


def test_one_writes_at_a_time(lib, root):
    fill(root, 4)
    with (
        Store.open(str(lib)).writing(),
        pytest.raises(LibraryError, match="is being written by another process; wait for it, or stop it"),
    ):
        update_plainly(lib, root)
    other = root.parent / "other"
    fill(other, 1)
    before = (lib / ABOUT).read_bytes()
    with Store.open(str(lib)).writing(), pytest.raises(LibraryError):
        update_plainly(lib, other)
    assert (lib / ABOUT).read_bytes() == before  # nor its roots
    assert update_plainly(lib, root).embedded == 1


def test_a_writer_begins_with_what_the_last_one_left(tmp_path, lib, root):
    """One that was opened before others wrote, as `--watch` is: another root, a file that was forgotten."""
    idle = Store.open(str(lib))
    other = tmp_path / "other"
    fill(other, 1)
    update_plainly(lib, other)
    theirs = Store.open(str(lib))
    (root / "000.mp4").unlink()
    with theirs.writing():
        theirs.forget(["root/000.mp4", "root/001.mp4"])
        theirs.tidy()
    (root / "new.mp4").write_text("new")
    settle(root / "new.mp4")
    summary = indexing.update(idle, NoModel(), library.SILENT, 1, progress=False, embed=library.embed_plainly)
    assert (summary.embedded, summary.same, summary.removed) == (2, 2, 0)
    store = Store.open(str(lib))
    assert store.about.roots == {"root": str(root), "other": str(other)}
    assert names(store) == ["other/000.mp4", "root/001.mp4", "root/002.mp4", "root/new.mp4"]
    by_content = {row["content"]: row["windows"] for row in store.file_rows()}
    assert contents(store) == by_content.keys() and store.windows.count_rows() == 2 * len(by_content)


READER = """
import os, sys
from pathlib import Path
from helpers.library import update_plainly
from save_jax.search import ranking, words
from save_jax.search.store import LibraryError, Store
lib, root = map(Path, sys.argv[1:])
store = Store.open(str(lib))
words.find(store, "red")  # LanceDB imports as it goes, and another user may not reach this environment
if os.getuid() == 0: os.setuid(65534)  # no permission stops root
print(len(ranking.view(store)), len(words.find(store, "red")), len(store.file_rows()))
try:
    update_plainly(lib, root)
except LibraryError as error:
    print(error)
"""


def test_a_folder_for_reading_alone_is_searched(lib, root):
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are closed to others
        os.chmod(folder, 0o755)
        copy = shutil.copytree(lib, os.path.join(folder, "lib"))
        videos = shutil.copytree(root, os.path.join(folder, "root"))
        for directory, _, files in os.walk(copy):
            for name in files:
                os.chmod(os.path.join(directory, name), 0o444)
            os.chmod(directory, 0o555)
        done = subprocess.run(
            [sys.executable, "-c", READER, copy, videos], capture_output=True, text=True, env=environment()
        )
        for directory, _, _ in os.walk(copy):
            os.chmod(directory, 0o755)
    assert done.stdout.splitlines()[:1] == ["6 3 3"], done.stderr
    assert "cannot be written (Permission denied)" in done.stdout.splitlines()[1]


WRITER = """
import sys
from pathlib import Path
from helpers.library import update_plainly
from save_jax.search import indexing
indexing._COMMIT_FILES, indexing._TIDY_COMMITS = 1, 3
update_plainly(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def count_of(folder: Path) -> int:
    """Files in it; 0 where it is not there, or goes meanwhile: what a killed creation left is made anew."""
    try:
        return len(os.listdir(folder))
    except FileNotFoundError:
        return 0


def test_a_killed_writer_loses_nothing_committed(tmp_path):
    """SIGKILL while the tables are made, and at moments between and within commits."""
    rng, root, lib = random.Random(0), tmp_path / "root", tmp_path / "lib"
    fill(root, 60)
    committed: set[str] = set()
    versions = lib / "files.lance" / "_versions"
    for kill in range(4):
        begun = count_of(versions)
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(lib), str(root)], env=environment())
        while process.poll() is None and (
            not versions.is_dir() if kill == 0 else count_of(versions) < begun + rng.randint(1, 4)
        ):
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.02))
        process.send_signal(signal.SIGKILL)
        process.wait()
        if not (lib / ABOUT).exists():  # before it was an index
            continue
        store = Store.open(str(lib))
        now = set(names(store))
        assert committed <= now
        there = contents(store)
        assert all(row["content"] in there for row in store.file_rows())
        committed = now
    assert 0 < len(committed) < 60
    last = update_plainly(lib, root)
    assert (last.same, last.embedded) == (len(committed), 60 - len(committed))
    store = Store.open(str(lib))
    assert len(names(store)) == 60 and store.windows.count_rows() == 120 and store.segments.count_rows() == 60
    assert len(words.find(store, "red")) == 60
    view = ranking.view(store)
    assert set(view.names) == view.files.keys()
    fresh = tmp_path / "fresh"
    update_plainly(fresh, root)
    assert size_of(str(lib)) < 1.5 * size_of(str(fresh))


def test_what_a_killed_creation_left_is_no_obstacle(tmp_path, root):
    lib = tmp_path / "lib"
    Store.create(str(lib), NoModel(), Cut())
    (lib / ABOUT).rename(lib / f"{ABOUT}.tmp")
    assert update_plainly(lib, root).embedded == 3


def test_a_killed_run_before_the_words_were_indexed_is_completed(lib, root):
    """Nothing is new for the next run, and the words are found all the same."""
    store = Store.open(str(lib))
    for index in store.segments.list_indices():
        store.segments.drop_index(index.name)
    assert words.find(store, "red") == []
    assert update_plainly(lib, root).same == 3
    assert len(words.find(Store.open(str(lib)), "red")) == 3


def test_many_small_updates_leave_a_small_folder(tmp_path):
    """Sixty files, each in a run of its own, replaced ones among them."""
    root, lib, fresh = tmp_path / "root", tmp_path / "lib", tmp_path / "fresh"
    root.mkdir()
    store = Store.create(str(lib), NoModel(), Cut())
    for number in range(60):
        path = root / f"{number % 40:03d}.mp4"
        path.write_text(f"content {number}")
        settle(path)
        rows = plain_rows(found(path))
        with store.writing():
            store.put([rows.file], rows.windows, rows.segments)
            store.clear_orphans()
            words.index(store)
            store.tidy()
    update_plainly(fresh, root)
    assert store.files.count_rows() == 40 and len(contents(store)) == 40
    assert size_of(str(lib)) <= 1.5 * size_of(str(fresh))
    assert len(words.find(store, "red")) == 40
    assert len(ranking.view(store)) == 80


def found(path):
    about = path.stat()
    return Found(f"root/{path.name}", "root", path.name, str(path), about.st_size, about.st_mtime_ns)


def data_files(lib: Path) -> set[Path]:
    """Of the tables that a new file of videos changes."""
    return {path for name in ("files", "windows") for path in (lib / f"{name}.lance" / "data").iterdir()}


def test_readers_go_on_while_a_writer_cleans_up(tmp_path):
    """Two handles: the reader's version is joined and removed under it, again and again."""
    root, lib = tmp_path / "root", tmp_path / "lib"
    fill(root, 2)
    update_plainly(lib, root)
    reader, writer = Store.open(str(lib)), Store.open(str(lib))
    for count in range(3, 7):
        fill(root, count)
        rows = plain_rows(found(root / f"{count - 1:03d}.mp4"))
        read, deadline = data_files(lib), time.monotonic() + 60
        with writer.writing():
            writer.put([rows.file], rows.windows, rows.segments)
            # Lance spares what is younger than NO_TIME, a millisecond, which the last rows of a fast machine are.
            while read & data_files(lib) and time.monotonic() < deadline:
                for table in writer.tables:
                    table.optimize(cleanup_older_than=library.NO_TIME, delete_unverified=True)
        with pytest.raises(RuntimeError, match="Not found"):  # else this tests nothing
            reader.windows.to_arrow()
        assert len(reader.file_rows()) == count
        view = ranking.view(reader)
        assert len(view) == 2 * count and len(view.files) == count
        assert len(reader.explained(view.table, view_offsets(view))[0]) == 2 * count


def test_a_version_that_is_cleaned_up_before_it_is_opened_is_asked_for_again(lib, root):
    reader, writer = Store.open(str(lib)), Store.open(str(lib))
    versions, count = [reader.windows.version], reader.windows.count_rows()
    writer.windows.delete(f"content = '{writer.windows.to_arrow()['content'][0].as_py()}'")
    writer.windows.optimize(cleanup_older_than=library.NO_TIME, delete_unverified=True)
    with pytest.raises(ValueError, match="no longer exists"):  # else this tests nothing
        reader.windows_at(versions[0])
    left = reader.reading(
        lambda: reader.windows_at(versions.pop() if versions else reader.windows.version).count_rows()
    )
    assert 0 < left < count
    with pytest.raises(ValueError, match="is no file"):  # what a user types is not taken for it

        def unknown():
            raise ValueError("Version 3 no longer exists. Was it cleaned up? is no file of this index")

        reader.reading(unknown)


def view_offsets(view):
    return ranking.best(view.means, view.means[0], len(view))


def test_deleted_rows_do_not_shift_others(lib, root):
    """A window's number is its place among the rows that are there."""
    store = Store.open(str(lib))
    store.windows.delete(f"content = '{store.windows.to_arrow()['content'][0].as_py()}'")
    view = ranking.view(store)
    offsets = view_offsets(view)
    rows, *_ = store.explained(store.windows, offsets)
    assert [row["content"] for row in rows] == [view.names[view.contents[k]] for k in offsets]
    assert [row["start"] for row in rows] == view.starts[offsets].tolist()


def test_a_view_keeps_its_version_when_another_thread_goes_on(lib, root):
    store = Store.open(str(lib))
    view = ranking.view(store)
    with store.writing():
        store.forget(["root/000.mp4"])
    store.refresh()
    rows, *_ = store.explained(view.table, np.arange(len(view)))
    assert [row["content"] for row in rows] == [view.names[k] for k in view.contents]
    assert len(ranking.view(store)) == len(view) - 2


def test_checks_say_what_is_wrong(lib, root):
    assert all(check.fine for check in checks.run(str(lib)) if "GB free" not in check.what)
    (root / "000.mp4").unlink()
    told = [check for check in checks.run(str(lib), "1" * 64) if not check.fine]
    assert [check.what for check in told[:2]] == ["the model has other parameters", "1 files are known and not there"]
    root.rename(root.parent / "away")
    assert any("offline" in check.what for check in checks.run(str(lib)))
    assert not roots.is_there(str(root))
