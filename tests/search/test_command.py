"""The command line over one library: what it prints, refuses and returns."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from helpers.library import settle, write_video
from helpers.made_run import make_run, plain_clips

from save_jax.search import command, index_command, indexing, transcripts
from save_jax.search.store import Store


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(folder of the index, its root, model): two files, one of which is none."""
    folder = tmp_path_factory.mktemp("command")
    run = make_run(folder, "vision", plain_clips(8))  # few modules compile soon
    write_video(folder / "mine" / "a\u202e.mp4", 3, 1, ["a red car\x1b[31m"])
    write_video(folder / "mine" / "b.mp4", 3, 2)
    (folder / "mine" / "broken.mp4").write_text("no video")

    os.utime(folder / "mine" / "broken.mp4", (1e9, 1e9))
    return folder / "lib", folder / "mine", run


@pytest.fixture
def type_in(monkeypatch, capsys):
    """(status, output, errors) of what is typed."""

    def run(*words):
        monkeypatch.setattr("sys.argv", ["search", *map(str, words)])
        status = command.main()
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def test_an_index_is_made_asked_and_looked_after(made, type_in, tmp_path):
    lib, mine, run = made
    status, out, err = type_in("index", mine, "--index", lib, "--model", run, "--jobs", "1")
    assert status == 0, err
    assert "2 files embedded" in out and "failed: " in out and "broken.mp4" in out
    status, out, _ = type_in("index", "--index", lib)
    assert status == 0 and "0 files embedded" in out and "3 as they were" in out
    status, out, err = type_in("query", lib, '"red car"', "--export", tmp_path / "a.edl", "--cut", tmp_path / "cuts")
    assert (
        status == 0
        and "a\\u202e.mp4" in out
        and "a red car\\x1b[31m" in out
        and not {"\x1b", "\u202e"} & set(out + err)
    )
    assert (tmp_path / "a.edl").exists() and len(list((tmp_path / "cuts").iterdir())) == 1
    status, out, _ = type_in("query", lib, "--like", f"{mine}/b.mp4@1", "--json", "--top", "1")
    [row] = json.loads(out)
    assert status == 0 and row["file"] == f"{mine}/a\u202e.mp4"  # not itself
    status, out, _ = type_in("stats", lib, "--files")
    assert "2 files, " in out and "1 files failed" in out and "\u202e" not in out
    status, out, _ = type_in("doctor", lib)
    assert status == 1 and "1 files could not be read" in out and "the model has the parameters" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["index", "--index", "{new}"], "is new; give folders of videos"),
        (["index", "{mine}", "--index", "{new}"], "a new index needs --model"),
        (["index", "{mine}", "--index", "s3://a/b", "--model", "x"], "is an address"),
        (["index", "{mine}", "--index", "{new}", "--model", "{run}", "--window", "2", "--hop", "3"], "would be lost"),
        (["index", "{mine}", "--index", "{new}", "--model", "{run}", "--hop", "nan"], "--hop is nan"),
        (["index", "{mine}/none", "--index", "{new}", "--model", "{run}"], "no such folder"),
        (["index", "{mine}", "--index", "{new}", "--model", "{run}", "--language", "en"], "give --speech, too"),
        (["index", "{mine}", "--index", "{new}", "--model", "{run}", "--moved", "a=b"], "is one of no root"),
        (["forget", "{new}"], "give files, or --root NAME"),
        (["query", "{new}", "a car"], "is no index"),
        (["query", "{new}", ""], "give a sentence, or --like FILE"),
        (["query", "{new}", "a", "--top", "0"], "--top is 0"),
        (["doctor", "{new}"], ""),
        (["stats", "{new}"], "is no index"),
    ],
)
def test_what_cannot_be_done_is_said(made, type_in, tmp_path, words, message):
    _, mine, run = made
    status, _, err = type_in(*(word.format(new=tmp_path / "new", mine=mine, run=run) for word in words))
    assert status == 1 and message in err and "Traceback" not in err
    assert not (tmp_path / "new").exists()


def test_ctrl_c_ends_at_once_and_says_what_was_done(made, type_in, tmp_path, monkeypatch):
    """The cut-off would take minutes."""
    _, mine, run = made
    stopped = indexing.Summary(embedded=1, stopped=True)
    monkeypatch.setattr(indexing, "update", lambda *given: stopped)
    monkeypatch.setattr(index_command, "_calibrate", lambda *given: pytest.fail("calibrated"))
    status, out, _ = type_in("index", mine, "--index", tmp_path / "lib", "--model", run)
    assert status == 130 and "1 files embedded" in out and "the same command goes on" in out


def test_speech_is_chosen_and_taken_back(made, type_in, tmp_path, monkeypatch):
    """A choice stays until another one is typed; the system may know no nice."""
    _, mine, run = made
    asked = []

    class Heard:
        def __init__(self, model, cache, language):
            asked.append((model, language))
            self.recogniser = f"{model} {language}".strip()

    def update(store, *given):
        change = given[-1]
        with store.writing():
            change(store.about)
            store.save()
        return indexing.Summary()

    monkeypatch.delattr("os.nice")
    monkeypatch.setattr(transcripts, "Transcriber", Heard)
    monkeypatch.setattr(indexing, "update", update)
    lib = tmp_path / "lib"
    for typed in (["--speech", "base", "--language", "fr"], [], ["--language", "none"], ["--speech", "none"], []):
        assert type_in("index", mine, "--index", lib, "--model", run, "--nice", *typed)[0] == 0
    assert asked == [("base", "fr"), ("base", "fr"), ("base", ""), ("", ""), ("", "")]


def test_ctrl_c_keeps_what_is_whole(made, tmp_path):
    """The command itself, as typed: it says what is kept, and the same command goes on."""
    run, root, lib = made[2], tmp_path / "many", tmp_path / "lib"
    first = write_video(root / "0.mp4", 3, 1)
    for number in range(1, 200):
        with open(root / f"{number}.mp4", "wb") as file:
            file.write(first.read_bytes() + bytes([number]))  # of another content
        settle(root / f"{number}.mp4")
    command = [sys.executable, "-m", "save_jax.search", "index", root, "--index", lib, "--model", run, "--jobs", "1"]
    with subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not (lib / "progress.json").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "stopped; what was committed is kept, and the same command goes on" in out
    kept = Store.open(str(lib)).files.count_rows()
    assert kept < 200
    assert abs(kept - int(re.search(r"(\d+) files embedded", out)[1])) <= 1  # one may have been about to be counted
    assert not (lib / "progress.json").exists()
