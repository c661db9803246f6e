"""What is found in folders, whatever cannot be read in them, and how they are named."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from helpers.library import SILENT, NoModel, embed_plainly, environment, names, settle, update_plainly, write_text

from save_jax.search import command, indexing, roots
from save_jax.search.store import LibraryError, Store


def changes_of(lib, folder):
    return roots.compare({folder.name: str(folder)}, Store.open(str(lib)).file_rows(), time.time())


AS_NOBODY = """
import json, os, sys, time
from save_jax.search import roots
root, rows = sys.argv[1], json.loads(sys.argv[2])
if os.getuid() == 0: os.setuid(65534)  # no permission stops root
changes = roots.compare({"root": root}, rows, time.time())
print([found.file for found in changes.new], changes.gone, changes.same, changes.skipped)
"""


def test_a_folder_that_cannot_be_read_hides_itself_alone():
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are closed to others
        os.chmod(folder, 0o755)
        lib, root = Path(folder, "lib"), Path(folder, "root")
        for name in ("b/b.mp4", "lost+found/c.mp4", "z/z.mp4"):
            write_text(root / name, name)
        update_plainly(lib, root)
        write_text(root / "a" / "a.mp4", "a")
        (root / "z" / "z.mp4").unlink()
        os.chmod(root / "lost+found", 0o000)
        rows = json.dumps(Store.open(str(lib)).file_rows())
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, str(root), rows], capture_output=True, text=True, env=environment()
        )
        os.chmod(root / "lost+found", 0o755)
    told = f"{root}/lost+found: Permission denied"
    assert done.stdout.strip() == str(["root/a/a.mp4"]) + f" ['root/z/z.mp4'] 1 ['{told}']", done.stderr


def test_subtitles_that_cannot_be_read_are_none(tmp_path, lib, root):
    (root / "a.srt").symlink_to(tmp_path / "nowhere")
    os.mkfifo(root / "b.srt")
    with open(root / "c.srt", "wb") as file:
        file.truncate((50 << 20) + 1)
    changes = changes_of(lib, root)
    assert changes.same == 3
    assert [line.removeprefix(f"{root}/") for line in changes.skipped] == [
        "a.srt: No such file or directory; its video is read without subtitles",
        "b.srt: no regular file; its video is read without subtitles",
        "c.srt: more than 50 MB; its video is read without subtitles",
    ]
    (tmp_path / "d.srt").write_text("d")
    (root / "c.srt").unlink()
    (root / "c.srt").symlink_to(tmp_path / "d.srt")
    assert [found.path for found in changes_of(lib, root).new] == ["c.mp4"]


def test_subtitles_that_break_while_they_are_read_are_named(lib, root):
    """/proc/self/mem is a regular file whose reading fails."""
    (root / "a.srt").symlink_to("/proc/self/mem")
    changes = changes_of(lib, root)
    assert changes.skipped == [f"{root}/a.srt: Input/output error; its video is read without subtitles"]
    assert (changes.same, len(changes.moved)) == (2, 1)


def test_a_file_that_goes_while_its_folder_is_read_stops_nothing(lib, root, monkeypatch):
    real = os.lstat

    def go(path, *given, **named):
        if str(path).endswith("b.mp4"):
            (root / "b.mp4").unlink(missing_ok=True)
        return real(path, *given, **named)

    monkeypatch.setattr(os, "lstat", go)
    changes = changes_of(lib, root)
    assert (changes.same, changes.gone, changes.skipped) == (2, ["root/b.mp4"], [])


def test_a_disk_that_goes_while_it_is_looked_through_is_offline(lib, root, monkeypatch):
    real = os.lstat

    def go(path, *given, **named):
        if str(path).endswith("b.mp4") and root.exists():
            root.rename(root.parent / "away")
        return real(path, *given, **named)

    monkeypatch.setattr(os, "lstat", go)
    changes = changes_of(lib, root)
    assert (changes.gone, changes.offline, changes.skipped) == ([], ["root"], [])


def test_a_file_that_was_put_on_another_disk_is_marked(lib, root):
    """Without embedding; it would be taken for gone when that disk is not mounted."""
    known = Store.open(str(lib)).file_rows()
    changes = roots.compare({"root": str(root)}, [row | {"mounted": True} for row in known], time.time())
    assert [found.mounted for found, _ in changes.moved] == [False] * 3 and not changes.new


def test_names_that_are_written_alike_are_told(tmp_path):
    root, lib = tmp_path / "root", tmp_path / "lib"
    write_text(root / "x\\xe9.mp4", "as text")
    raw = os.fsencode(str(root)) + b"/x\xe9.mp4"
    with open(raw, "wb") as file:
        file.write(b"as a byte")
    settle(raw)
    summary = update_plainly(lib, root)
    assert summary.embedded == 1 and "another file has this name" in summary.skipped[0]
    assert update_plainly(lib, root).same == 1 and names(Store.open(str(lib))) == ["root/x\\xe9.mp4"]


def test_a_folder_whose_name_is_no_utf_8(tmp_path):
    root = Path(os.fsdecode(os.fsencode(str(tmp_path)) + b"/caf\xe9"))
    write_text(root / "a.mp4", "a")
    assert update_plainly(tmp_path / "lib", root).embedded == 1
    assert update_plainly(tmp_path / "lib", root).same == 1
    assert names(Store.open(str(tmp_path / "lib"))) == ["caf\\xe9/a.mp4"]


def test_files_alike_in_all_that_is_sampled_are_told_apart(tmp_path):
    root, lib, data = tmp_path / "root", tmp_path / "lib", bytearray(os.urandom(3 << 20))
    root.mkdir()
    for number, name in enumerate(("a.mp4", "b.mp4")):
        data[100_000] = number  # between the blocks
        (root / name).write_bytes(data)
        os.utime(root / name, ns=(number * 10**9, number * 10**9))
        assert update_plainly(lib, root).embedded == 1
    before = {row["path"]: row["content"] for row in Store.open(str(lib)).file_rows()}
    os.rename(root / "a.mp4", root / "c.mp4")
    os.rename(root / "b.mp4", root / "d.mp4")
    summary = update_plainly(lib, root)
    assert (summary.embedded, summary.moved, summary.removed) == (0, 2, 0)
    after = {row["path"]: row["content"] for row in Store.open(str(lib)).file_rows()}
    assert after == {"c.mp4": before["a.mp4"], "d.mp4": before["b.mp4"]}


def test_roots_are_named_once(tmp_path):
    for name in ("x/mine", "y/mine", "x/mine/sub"):
        (tmp_path / name).mkdir(parents=True)
    named = indexing.name_roots([str(tmp_path / "x" / "mine"), str(tmp_path / "y" / "mine")], {})
    assert list(named) == ["mine", "mine-2"]
    assert indexing.name_roots([str(tmp_path / "y" / "mine") + "/"], named) == named
    with pytest.raises(LibraryError, match="lie within each other; give the outer one alone"):
        indexing.name_roots([str(tmp_path / "x" / "mine" / "sub")], named)
    with pytest.raises(LibraryError, match="no such folder"):
        indexing.name_roots([str(tmp_path / "none")], {})
    (tmp_path / "y" / "mine").rmdir()  # a known one may be offline
    assert indexing.name_roots([str(tmp_path / "y" / "mine")], named) == named


def test_folders_on_two_drives_of_windows_lie_apart(monkeypatch):
    def commonpath(_):
        raise ValueError("Paths don't have the same drive")

    monkeypatch.setattr(os.path, "commonpath", commonpath)
    assert not indexing._overlap("C:/Videos", "D:/Videos")


def test_a_root_lies_elsewhere_now(lib, root, tmp_path):
    before = Store.open(str(lib)).windows.to_arrow().to_pylist()
    (tmp_path / "new").mkdir()
    root = root.rename(tmp_path / "new" / "place=2")
    for given in (f"root={root}", f"{tmp_path / 'root'}={root}"):
        known = Store.open(str(lib)).about.roots
        assert indexing.move_root(given, known) == {"root": str(root)}
    store = Store.open(str(lib))
    change = indexing.with_folders([], [f"root={root}"])
    summary = indexing.update(store, NoModel(), SILENT, 1, False, embed_plainly, change)
    assert (summary.same, summary.embedded, summary.removed) == (3, 0, 0)
    assert Store.open(str(lib)).about.roots == {"root": str(root)}
    assert Store.open(str(lib)).windows.to_arrow().to_pylist() == before
    write_text(tmp_path / "other" / "d.mp4", "d")
    update_plainly(lib, tmp_path / "other")
    known = Store.open(str(lib)).about.roots
    with pytest.raises(LibraryError, match="is a root already"):
        indexing.move_root(f"root={tmp_path / 'other'}", known)
    with pytest.raises(LibraryError, match="takes OLD=NEW, where OLD is one of root, other"):
        indexing.move_root(f"none={root}", known)
    with pytest.raises(LibraryError, match="no such folder"):
        indexing.move_root(f"root={tmp_path / 'none'}", known)
    with pytest.raises(LibraryError, match="lie within each other"):
        indexing.move_root(f"root={tmp_path}", known)


def test_a_root_is_forgotten(lib, root, tmp_path, monkeypatch, capsys):
    write_text(tmp_path / "it's" / "d.mp4", "d")
    update_plainly(lib, tmp_path / "it's")
    for given, left in (("it's", ["root"]), (str(root), [])):
        monkeypatch.setattr("sys.argv", ["search", "forget", str(lib), "--root", given])
        assert command.main() == 0
        store = Store.open(str(lib))
        assert [*store.about.roots] == left and {row["root"] for row in store.file_rows()} == {*left}
    assert [table.count_rows() for table in store.tables] == [0, 0, 0]
    monkeypatch.setattr("sys.argv", ["search", "forget", str(lib), "--root", "root"])
    assert command.main() == 1 and "is no root of" in capsys.readouterr().err
    assert update_plainly(lib, root).embedded == 3
