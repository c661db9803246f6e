"""What becomes of an index when its folders change: nothing is embedded twice, and nothing is lost."""

import os
import shutil
import subprocess

import pytest
from helpers import library
from helpers.library import NoModel, contents, names, settle, update_plainly, write_text, write_video

from save_jax.search import command, indexing, roots
from save_jax.search.store import Store
from save_jax.search.windows import Cut


def test_new_files_alone_are_embedded(tmp_path, embedder, videos):
    """With the real model: what is there keeps its rows."""
    root = tmp_path / "root"
    write_video(root / "a.mp4", 3, 1)
    store = Store.create(str(tmp_path / "lib"), embedder, library.CUT)
    first = library.update(store, embedder, root)
    assert (first.embedded, first.windows, first.failed, first.notes) == (1, 1, {}, 0)
    write_video(root / "more" / "b.mp4", 5, 2, ["one two three"])
    second = library.update(store, embedder)
    assert (second.embedded, second.same, second.windows) == (1, 1, 3) and second.duration == 5
    [row] = [row for row in store.file_rows() if row["file"] == "root/more/b.mp4"]
    assert (row["windows"], row["duration"], row["state"]) == (3, 5, "ready")
    assert [part["text"] for part in store.segments.to_arrow().to_pylist()] == ["one two three"]


def test_a_moved_or_renamed_file_keeps_its_rows(lib, root):
    before = Store.open(str(lib)).windows.to_arrow().to_pylist()
    (root / "sub").mkdir()
    os.rename(root / "a.mp4", root / "sub" / "a.mp4")
    os.rename(root / "b.mp4", root / "a new name.mkv")
    summary = update_plainly(lib, root)
    assert (summary.embedded, summary.moved, summary.removed, summary.same) == (0, 2, 0, 1)
    store = Store.open(str(lib))
    assert names(store) == ["root/a new name.mkv", "root/c.mp4", "root/sub/a.mp4"]
    assert store.windows.to_arrow().to_pylist() == before


def test_a_touched_file_is_as_it_was(lib, root):
    settle(root / "a.mp4")
    summary = update_plainly(lib, root)
    assert (summary.embedded, summary.moved, summary.same) == (0, 0, 3)
    assert update_plainly(lib, root).same == 3


@pytest.mark.parametrize("left", [[], ["." + "DS_Store"]], ids=["empty", "hidden files alone"])
def test_a_root_that_is_not_mounted_loses_nothing(tmp_path, lib, root, left):
    away = tmp_path / "away"
    root.rename(away)
    other = tmp_path / "other"
    write_text(other / "d.mp4", "d")
    gone = update_plainly(lib, other)
    assert (gone.offline, gone.removed, gone.embedded) == (["root"], 0, 1)
    root.mkdir()
    for name in left:
        (root / name).touch()
    unmounted = update_plainly(lib, other)
    assert (unmounted.offline, unmounted.removed) == (["root"], 0)
    assert len(names(Store.open(str(lib)))) == 4 and len(contents(Store.open(str(lib)))) == 4
    shutil.rmtree(root)
    away.rename(root)
    back = update_plainly(lib, root)
    assert (back.same, back.embedded, back.offline) == (4, 0, [])


def test_a_file_replaced_in_place_is_read_again(lib, root):
    """And what it held before goes in the same run."""
    old = contents(Store.open(str(lib)))
    write_text(root / "a.mp4", "other content")
    summary = update_plainly(lib, root)
    assert (summary.embedded, summary.same, summary.removed) == (1, 2, 0)
    store = Store.open(str(lib))
    assert len(contents(store)) == 3 and len(old & contents(store)) == 2 and len(names(store)) == 3
    shutil.copy(root / "b.mp4", root / "a.mp4")  # by the content of another
    settle(root / "a.mp4")
    assert update_plainly(lib, root).embedded == 0
    assert len(contents(Store.open(str(lib)))) == 2


def test_files_of_one_content_share_their_windows(tmp_path):
    root, lib = tmp_path / "root", tmp_path / "lib"
    write_text(root / "a.mp4", "same")
    write_text(root / "b.mp4", "same")
    first = update_plainly(lib, root)
    assert (first.embedded, first.moved) == (1, 1)
    write_text(root / "c.mp4", "same")
    second = update_plainly(lib, root)
    assert (second.embedded, second.moved, second.same) == (0, 1, 2)
    store = Store.open(str(lib))
    assert len(names(store)) == 3 and store.windows.count_rows() == 2
    (root / "a.mp4").unlink()
    assert update_plainly(lib, root).removed == 1
    store = Store.open(str(lib))
    assert names(store) == ["root/b.mp4", "root/c.mp4"] and store.windows.count_rows() == 2


def test_copies_of_a_broken_file_have_a_reason_each(tmp_path):
    root = tmp_path / "root"
    for name in ("a.mp4", "b.mp4"):
        write_text(root / name, "bad file")
    assert update_plainly(tmp_path / "lib", root).failed.keys() == {"root/a.mp4", "root/b.mp4"}


def test_a_deleted_file_goes_with_what_nobody_else_names(lib, root):
    (root / "b.mp4").unlink()
    assert update_plainly(lib, root).removed == 1
    store = Store.open(str(lib))
    assert names(store) == ["root/a.mp4", "root/c.mp4"] and len(contents(store)) == 2
    assert store.segments.count_rows() == 2


def test_a_broken_file_stops_nothing(tmp_path, embedder, capsys):
    """With the real reader; one whose name is no UTF-8 and breaks as well, too."""
    root = tmp_path / "root"
    write_video(root / "good.mp4", 2, 1)
    write_text(root / "text.mp4", "no video at all")
    write_text(root / "empty.mkv", "")
    (root / "cut.mp4").write_bytes((root / "good.mp4").read_bytes()[:3000])
    settle(root / "cut.mp4")
    hostile = os.fsencode(str(root)) + b"/\x1b[31mred \xff.mp4"
    with open(hostile, "wb") as file:
        file.write(b"nothing")
    settle(hostile)
    store = Store.create(str(tmp_path / "lib"), embedder, library.CUT)
    summary = library.update(store, embedder, root)
    assert summary.embedded == 1 and len(summary.failed) == 4
    assert "empty file" in summary.failed["root/empty.mkv"]
    rows = {row["file"]: row for row in store.file_rows()}
    assert rows["root/text.mp4"]["state"] == "failed" and "text.mp4" in rows["root/text.mp4"]["reason"]
    printed = capsys.readouterr()
    assert "\x1b" not in printed.err + printed.out and "\\x1b[31mred" in printed.err
    again = library.update(store, embedder)
    assert (again.embedded, again.same, again.failed) == (0, 5, {})  # not read again while it is the same


def test_a_growing_file_is_left_for_the_next_run(lib, root):
    (root / "d.mp4").write_text("half")
    assert update_plainly(lib, root).growing == [str(root / "d.mp4")]
    (root / "a.mp4").write_text("half of another")  # known: keeps its rows until it is whole
    summary = update_plainly(lib, root)
    assert len(summary.growing) == 2 and summary.removed == 0
    settle(root / "d.mp4")
    assert update_plainly(lib, root).embedded == 1


def test_hidden_files_links_and_folders_are_passed_over(tmp_path, root):
    outside = tmp_path / "outside"
    write_text(outside / "x.mp4", "outside")
    write_text(root / ".hidden.mp4", "hidden")
    write_text(root / ".cache" / "x.mp4", "hidden folder")
    write_text(root / "folder.mp4" / "inside.mp4", "inside")
    (root / "link.mp4").symlink_to(outside / "x.mp4")
    (root / "folder").symlink_to(outside)
    os.mkfifo(root / "pipe.mp4")
    found = [found.path for found in roots.walk("root", str(root))]
    assert found == ["a.mp4", "b.mp4", "c.mp4", "folder.mp4/inside.mp4"]


def test_forget_takes_files_out(lib, root, monkeypatch, capsys):
    for given in (["root/a.mp4"], [str(root / "b.mp4")]):
        monkeypatch.setattr("sys.argv", ["search", "forget", str(lib), *given])
        assert command.main() == 0
    store = Store.open(str(lib))
    assert names(store) == ["root/c.mp4"] and len(contents(store)) == 1
    monkeypatch.setattr("sys.argv", ["search", "forget", str(lib), "root/a.mp4"])
    assert command.main() == 1 and "not in the index: root/a.mp4" in capsys.readouterr().err
    assert update_plainly(lib, root).embedded == 2


NAMES = (
    "it's.mp4", 'a "quoted" name.mp4', "'; DROP TABLE files; --.mp4", "naïve 你好 🐦.mp4", "new\nline.mp4",
    "\x1b[2Jclear.mp4", "\u202e4pm.exe.mp4", "50% [x] {y} \\.mp4", "a\\xe9.mp4",
)  # fmt: skip


def test_names_are_shown_and_not_obeyed(tmp_path, monkeypatch, capsys):
    root, lib = tmp_path / "root", tmp_path / "lib"
    for name in NAMES:
        write_text(root / name, f"content of {name}")
    raw = os.fsencode(str(root)) + b"/caf\xe9.mp4"
    with open(raw, "wb") as file:
        file.write(b"latin")
    settle(raw)
    assert update_plainly(lib, root).embedded == len(NAMES) + 1
    assert update_plainly(lib, root).same == len(NAMES) + 1
    store = Store.open(str(lib))
    assert all(os.path.exists(roots.locate(str(root), row["path"])) for row in store.file_rows())
    monkeypatch.setattr("sys.argv", ["search", "stats", str(lib), "--files"])
    assert command.main() == 0
    shown = capsys.readouterr().out
    assert not set(shown) & {"\x1b", "\u202e"} and "\\x1b[2Jclear" in shown and "\\u202e4pm" in shown
    assert "new\\nline.mp4" in shown
    for name in [*NAMES, "caf\\xe9.mp4"]:
        monkeypatch.setattr("sys.argv", ["search", "forget", str(lib), f"root/{name}"])
        assert command.main() == 0
    assert names(Store.open(str(lib))) == [] == sorted(contents(Store.open(str(lib))))


@pytest.mark.parametrize("name", ["a.mp4", "b.mp4"], ids=["in place", "as another file"])
def test_a_change_of_one_byte_is_seen(tmp_path, name):
    """Wherever it is: between the blocks that are read first, too."""
    root, lib, data = tmp_path / "root", tmp_path / "lib", bytearray(os.urandom(3 << 20))
    root.mkdir()
    (root / "a.mp4").write_bytes(data)
    settle(root / "a.mp4")
    update_plainly(lib, root)
    for count, at in enumerate((0, len(data) // 2, 100_000, len(data) - 1), 2):
        data[at] ^= 1
        (root / name).write_bytes(data)
        os.utime(root / name, ns=(count * 10**9, count * 10**9))
        summary = update_plainly(lib, root)
        assert (summary.embedded, summary.moved) == (1, 0)
        assert len(contents(Store.open(str(lib)))) == (1 if name == "a.mp4" else 2)


def test_subtitles_belong_to_what_a_file_holds(tmp_path, embedder, videos):
    """Changed ones, new ones and those that are gone are read with their file, and copies may differ in theirs."""
    root, lib = tmp_path / "root", tmp_path / "lib"
    write_video(root / "a.mp4", 2, 1, ["one two"])
    write_video(root / "b.mp4", 2, 2)
    store = Store.create(str(lib), embedder, library.CUT)

    def said():
        summary = library.update(store, embedder, root)
        by_content = {row["content"]: row["text"] for row in store.segments.to_arrow().to_pylist()}
        return summary.embedded, {row["path"]: by_content.get(row["content"], "") for row in store.file_rows()}

    assert said() == (2, {"a.mp4": "one two", "b.mp4": ""})
    line = "1\n00:00:00,100 --> 00:00:00,900\n{}\n"
    (root / "a.srt").write_text(line.format("three"))
    assert said() == (1, {"a.mp4": "three", "b.mp4": ""})
    (root / "b.srt").write_text(line.format("four"))
    shutil.copy2(root / "a.mp4", root / "c.mp4")  # without subtitles
    assert said() == (2, {"a.mp4": "three", "b.mp4": "four", "c.mp4": ""})
    (root / "a.srt").unlink()
    assert said() == (0, {"a.mp4": "", "b.mp4": "four", "c.mp4": ""})  # as the copy is known
    os.rename(root / "b.mp4", root / "d.mp4")
    os.rename(root / "b.srt", root / "d.srt")
    assert said() == (0, {"a.mp4": "", "c.mp4": "", "d.mp4": "four"})


def test_a_disk_below_a_root_that_is_not_mounted_loses_nothing(tmp_path, lib, root):
    disk = root / "year" / "disk"
    disk.mkdir(parents=True)
    if subprocess.run(["mount", "-t", "tmpfs", "none", disk], capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        write_text(disk / "d.mp4", "d")
        assert update_plainly(lib, root).embedded == 1
    finally:
        subprocess.run(["umount", disk], check=True)
    for _ in range(2):
        away = update_plainly(lib, root)
        assert (away.offline, away.removed, away.same) == (["root/year/disk"], 0, 3)
        shutil.rmtree(root / "year", ignore_errors=True)
    assert len(contents(Store.open(str(lib)))) == 4


def test_ctrl_c_keeps_what_is_whole(tmp_path, root):
    def interrupted(files):
        yield from library.embed_plainly(files[:2])
        raise KeyboardInterrupt

    store = Store.create(str(tmp_path / "lib"), NoModel(), Cut())
    change = indexing.with_folders([str(root)])
    summary = indexing.update(store, NoModel(), library.SILENT, 1, progress=False, embed=interrupted, change=change)
    assert summary.stopped and summary.embedded == 2 and len(names(store)) == 2
    rest = update_plainly(tmp_path / "lib", root)
    assert (rest.embedded, rest.same, rest.stopped) == (1, 2, False)
