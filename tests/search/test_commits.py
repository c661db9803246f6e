"""What becomes of a run's rows: failures that are no file's fault, long files in parts, recognisers that come later."""

import dataclasses
import errno
import json
import types

import numpy as np
import pytest
from helpers import library
from helpers.library import NoModel, contents, names, plain_rows, update_plainly, write_text, write_video
from helpers.media import write_media
from helpers.recognising import Deadly, task
from helpers.voices import noise

from data_prep.media.opening import MediaError
from data_prep.speech.hearing import ModelError
from save_jax.search import indexing, reading, words
from save_jax.search.embedder import Embedded
from save_jax.search.reading import Left, Rows
from save_jax.search.store import Store
from save_jax.search.transcripts import RecogniserError, Transcriber
from save_jax.search.windows import Cut


@dataclasses.dataclass(frozen=True)
class Plain(NoModel):
    """Embeds any window as zeros."""

    image_size: int = 32
    words: int = 8
    batch: int = 2

    def windows(self, windows):
        frames = np.zeros((len(windows), 1, self.frames, self.size), np.float16)
        return Embedded(frames[:, 0], frames, np.zeros((len(windows), self.size), np.float32))


def made_in(folder, root) -> Store:
    store = Store.create(str(folder), NoModel(), Cut())
    store.about.roots = {"root": str(root)}
    store.save()
    return store


def update(store, embed, recogniser="") -> indexing.Summary:
    transcriber = types.SimpleNamespace(recogniser=recogniser)
    return indexing.update(store, NoModel(), transcriber, 1, progress=False, embed=embed)


def truly(files):
    yield from reading.embed_files(files, Plain(), library.SILENT, Cut(2.0, 1.0), 1, {})


# ---------------------------------------------------------------- failures


@pytest.mark.parametrize("when", ["before they are read", "while they are decoded"])
def test_a_disk_that_goes_is_no_fault_of_its_files(lib, root, monkeypatch, when):
    write_text(root / "a.mp4", "another one, no video")
    write_text(root / "d.mp4", "a new one, no video")
    away = root.parent / "away"

    def unplugged(files):
        if when.startswith("before"):
            root.rename(away)
        yield from truly(files)

    read = reading.windows.read

    def decode(*given):
        root.rename(away)
        return read(*given)

    monkeypatch.setattr(reading.windows, "read", decode)

    before = Store.open(str(lib)).file_rows()
    summary = update(Store.open(str(lib)), unplugged)
    assert summary.failed.keys() == {"root/a.mp4", "root/d.mp4"} and "o such file" in summary.failed["root/a.mp4"]
    assert Store.open(str(lib)).file_rows() == before
    away.rename(root)
    assert summary.left == 2
    assert update_plainly(lib, root).embedded == 2


def test_what_runs_out_is_no_fault_of_a_file(lib, root, monkeypatch):
    write_text(root / "a.mp4", "another one, no video")
    without = OSError(errno.ENOMEM, "Cannot allocate memory")
    for error, cause in ((MemoryError(), None), (OSError(errno.EIO, "I/O"), None), (MediaError("stops"), without)):

        def fail(*_, error=error, cause=cause):
            raise error from cause

        monkeypatch.setattr(reading.windows, "read", fail)
        before = Store.open(str(lib)).file_rows()
        assert update(Store.open(str(lib)), truly).failed.keys() == {"root/a.mp4"}
        assert Store.open(str(lib)).file_rows() == before
    monkeypatch.undo()
    assert update(Store.open(str(lib)), truly).failed.keys() == {"root/a.mp4"}  # as itself
    rows = {row["file"]: row["state"] for row in Store.open(str(lib)).file_rows()}
    assert rows["root/a.mp4"] == "failed" and len(contents(Store.open(str(lib)))) == 2
    assert update(Store.open(str(lib)), truly).failed == {}


def test_a_recogniser_that_does_not_load_is_no_fault_of_a_file(tmp_path, monkeypatch):
    def no_weights():
        raise ModelError("no weights")

    transcriber = Transcriber("", "")
    transcriber._task = task(tmp_path)
    monkeypatch.setattr(transcriber._task, "_engine", no_weights)
    path = write_video(tmp_path / "root" / "a.mp4", 1)
    with pytest.raises(RecogniserError, match="no weights"):
        transcriber(str(path), "", pytest.fail)
    store = made_in(tmp_path / "lib", path.parent)
    summary = update(store, lambda files: reading.embed_files(files, Plain(), transcriber, Cut(), 1, {}))
    assert "no weights" in summary.failed["root/a.mp4"] and names(store) == []


def test_a_file_with_which_the_recogniser_dies_is_heard_in_a_process_of_its_own(tmp_path):
    """Once two runs have died with it."""
    write_media(tmp_path / "a.wav", sound=noise(1.2))
    write_media(tmp_path / "b.wav", sound=noise(1.3))
    transcriber, told = Transcriber("", ""), []
    transcriber._task, transcriber._source = task(tmp_path, kind=Deadly), "whisper"
    for name in ("a.wav", "b.wav"):
        transcriber._task.cache.mark(transcriber._task._description(str(tmp_path / name)), 2)
    assert transcriber(str(tmp_path / "a.wav"), "", told.append).segments == []
    assert "speech: the worker process died on this clip" in told[0]
    assert [one["text"] for one in transcriber(str(tmp_path / "b.wav"), "", told.append).segments] == [
        "Number 13 is said."
    ]
    assert len(told) == 1


def test_a_worker_that_dies_is_no_fault_of_its_files(lib, root):
    write_text(root / "a.mp4", "another")
    before = Store.open(str(lib)).file_rows()
    update(Store.open(str(lib)), lambda files: iter([Left(found, "died") for found in files]))
    assert Store.open(str(lib)).file_rows() == before


# ---------------------------------------------------------------- commits


@pytest.fixture
def film(tmp_path):
    return write_video(tmp_path / "root" / "film.mp4", 9, 1, ["one", "two"])


def test_a_long_file_comes_in_parts(tmp_path, film, monkeypatch):
    store = made_in(tmp_path / "whole", film.parent)
    update(store, truly)
    whole = store.windows.to_arrow().to_pylist()
    assert len(whole) == 7
    sizes = []

    def parts(files):
        for rows in truly(files):
            sizes.append(len(rows.windows))
            yield rows

    monkeypatch.setattr(reading, "_PART", 2)
    monkeypatch.setattr(indexing, "_COMMIT_FILES", 1)
    store = made_in(tmp_path / "parts", film.parent)
    summary = update(store, parts)
    assert len(sizes) > 2 and max(sizes) <= 4
    assert (summary.embedded, summary.windows, summary.duration) == (1, 7, 9)
    assert store.windows.to_arrow().to_pylist() == whole and store.segments.count_rows() == 2
    assert store.halves() == set() and update(store, truly).same == 1


def test_parts_of_a_file_that_was_not_read_to_its_end_are_no_rows(tmp_path, film, monkeypatch):
    monkeypatch.setattr(reading, "_PART", 2)
    monkeypatch.setattr(indexing, "_COMMIT_FILES", 1)

    def interrupted(files):
        yield next(truly(files))
        raise KeyboardInterrupt

    store = made_in(tmp_path / "lib", film.parent)
    assert update(store, interrupted).stopped
    assert names(store) == [] and store.windows.count_rows() == 0


def test_copies_that_are_read_side_by_side_count_once(tmp_path, root, monkeypatch):
    monkeypatch.setattr(indexing, "_COMMIT_FILES", 1)
    (root / "b.mp4").unlink()

    def together(files):
        first, second = (plain_rows(found) for found in files[:2])
        second.windows = plain_rows(files[0]).windows
        second.file["content"] = first.file["content"]
        for rows in (first, second):
            yield Rows(None, rows.windows[:1], [], rows.file["file"])
        for rows in (first, second):
            yield Rows(rows.file, rows.windows[1:], rows.segments)

    store = made_in(tmp_path / "lib", root)
    update(store, together)
    assert len(names(store)) == 2 and store.windows.count_rows() == 2 and store.segments.count_rows() == 1


def test_rows_that_a_kill_took_are_read_again(lib, root):
    store = Store.open(str(lib))
    store.windows.delete(f"content = '{store.file_rows()[0]['content']}' AND number = 1")
    summary = update_plainly(lib, root)
    assert (summary.again, summary.embedded, summary.same) == (1, 1, 2)
    assert Store.open(str(lib)).windows.count_rows() == 6


def test_words_that_a_kill_left_are_cleared(lib, root):
    store = Store.open(str(lib))
    content = next(row["content"] for row in store.file_rows() if row["path"] == "a.mp4")
    store.files.delete("file = 'root/a.mp4'")
    store.windows.delete(f"content = '{content}'")  # killed before it came to the segments
    (root / "a.mp4").unlink()
    update_plainly(lib, root)
    assert Store.open(str(lib)).segments.count_rows() == 2


def test_words_are_found_while_the_first_run_goes_on(tmp_path, root, monkeypatch):
    monkeypatch.setattr(indexing, "_COMMIT_FILES", 1)
    found = []

    def embed(files):
        for rows in library.embed_plainly(files):
            yield rows
            found.append(len(words.find(Store.open(str(tmp_path / "lib")), "red")))

    update(made_in(tmp_path / "lib", root), embed)
    assert found == [1, 2, 3]


def test_commits_are_rare_after_the_first_minute(tmp_path, root, monkeypatch):
    """However many files come: readers build their view anew after each."""
    monkeypatch.setattr(indexing, "_COMMIT_FILES", 1)

    def commits(name):
        store, count = made_in(tmp_path / name, root), []
        monkeypatch.setattr(store, "put", lambda *rows: (count.append(1), Store.put(store, *rows)))
        assert update(store, library.embed_plainly).embedded == 3
        return len(count)

    assert commits("often") == 3
    monkeypatch.setattr(indexing, "_SOON", -1.0)
    assert commits("rarely") == 1
    monkeypatch.setattr(indexing, "_COMMIT_WINDOWS", 2)
    assert commits("many windows") == 3


# ---------------------------------------------------------------- recognisers


def heard_by(name, source=""):
    def embed(files):
        for found in files:
            rows = plain_rows(found)
            rows.file |= {"source": source, "heard": name}
            yield rows

    return embed


def test_a_recogniser_that_comes_later_is_asked(tmp_path, root, capsys):
    """Of what has no subtitles, and once; another one, or another language, is asked anew."""
    store = made_in(tmp_path / "lib", root)
    update(store, heard_by(""))
    write_text(root / "d.mp4", "with subtitles")
    write_text(root / "e.mp4", "a.mp4")  # a copy
    update(store, heard_by("", "subtitles (.srt file)"))
    for recogniser in ("base", "base fr"):
        summary = update(store, heard_by(recogniser, "whisper"), recogniser)
        assert (summary.again, summary.embedded, summary.moved, summary.same) == (4, 3, 1, 1)
        assert f"4 files are read again: {recogniser} is to hear them" in capsys.readouterr().err
        assert update(store, heard_by(recogniser, "whisper"), recogniser).same == 5
    assert update(store, heard_by("")).same == 5  # what was heard stays
    assert store.windows.count_rows() == 8


def test_a_moved_file_that_a_recogniser_did_not_hear_is_read(lib, root):
    store = Store.open(str(lib))
    with store.writing():
        store.put_files([row | {"source": ""} for row in store.file_rows()])
    (root / "a.mp4").rename(root / "d.mp4")
    summary = update(store, heard_by("base"), "base")
    assert (summary.embedded, summary.moved, summary.removed) == (3, 0, 1)


def test_what_was_asked_is_in_the_row(tmp_path):
    transcriber = Transcriber("", "")
    transcriber.recogniser, transcriber._source = "base en", "whisper base"
    transcriber._task = task(tmp_path)
    write_video(tmp_path / "root" / "a.mp4", 1)
    write_video(tmp_path / "root" / "b.mp4", 1, 2, ["one"])
    store = made_in(tmp_path / "lib", tmp_path / "root")
    update(store, lambda files: reading.embed_files(files, Plain(), transcriber, Cut(), 1, {}))
    assert {row["path"]: row["heard"] for row in store.file_rows()} == {"a.mp4": "base en", "b.mp4": ""}
    about = json.loads((tmp_path / "lib" / "library.json").read_text())
    assert (about["speech"], about["language"]) == ("", "")
