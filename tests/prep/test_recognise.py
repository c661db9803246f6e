"""How recognition ends, by a stop, a kill, a crash or a full disk, and goes on: what was heard is kept. No torch.

An engine that says how long each piece is and counts its calls stands in for Whisper's.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from helpers.media import write_media
from helpers.places import REPOSITORY
from helpers.recognising import Counting, entries, run, sample, task, write_sounds
from helpers.voices import RATE, noise

from data_prep.media.opening import MediaError
from data_prep.speech import recognise, vad
from data_prep.speech.cache import Cache, CacheError
from data_prep.speech.hearing import ModelError, Stopped


def marks(folder: Path) -> list[str]:
    """What the marks of files under way say."""
    return [path.read_text() for path in (folder / "cache").glob("*/*.begun")]


def kept_pieces(folder: Path) -> int:
    """Pieces in the cache of files that were not heard to their end."""
    found = (json.loads(path.read_text()) for path in (folder / "cache").glob("*/*.json"))
    return sum(len(entry["result"]) for entry in found if "pieces" in entry["of"])


def test_a_killed_run_goes_on_where_it_was(tmp_path):
    samples = write_sounds(tmp_path)
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import pathlib; from helpers import recognising as t; "
        "folder = pathlib.Path(sys.argv[2]); "
        "t.run(folder, [t.sample(p) for p in sorted(folder.glob('*.wav'))], t.Counting(fails_at=3))"
    )
    done = subprocess.run([sys.executable, "-c", program, str(REPOSITORY / "tests"), str(tmp_path)], timeout=60)
    assert done.returncode == -9 and not (tmp_path / "transcripts.json").exists()
    engine = Counting()
    result, rows = run(tmp_path, samples, engine)
    assert engine.pieces == 1 and result["counts"]["from the cache"] == 4 and len(rows) == 5
    assert not list((tmp_path / "cache").glob("*/*.tmp*"))


class Interrupted(Counting):
    """Ctrl-C comes while it hears its third piece; that, and those beside it, end when the run has begun to."""

    def __init__(self, ending: threading.Event):
        super().__init__()
        self.ending, self.turn = ending, threading.Lock()

    def transcribe(self, waveforms, languages):
        with self.turn:
            said, number = super().transcribe(waveforms, languages), self.calls
        if number == 3:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        if number >= 3:
            assert self.ending.wait(60)
        return said


@pytest.mark.parametrize("threads", ["1", "2", "4"])
def test_a_stop_loses_nothing_that_was_heard(threads, tmp_path, monkeypatch):
    """Of an engine that takes a piece at a time: what is under way is heard to its end, and kept."""
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    wait_for, ending = recognise._wait_for, threading.Event()

    def waits(futures):
        threading.Timer(0.2, ending.set).start()
        wait_for(futures)

    monkeypatch.setattr(recognise, "_wait_for", waits)
    samples, first, again = write_sounds(tmp_path, 12), Interrupted(ending), Counting()
    write_media(Path(samples[2].video), sound=noise(300))  # eleven pieces
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, samples, first, engine="faster-whisper")
    assert 3 <= first.pieces <= 2 + int(threads) and first.pieces == entries(tmp_path) + kept_pieces(tmp_path)
    heard = entries(tmp_path)
    result, rows = run(tmp_path, samples, again, engine="faster-whisper")
    assert first.pieces + again.pieces == 22 and result["counts"]["from the cache"] == heard
    assert [row["key"] for row in rows] == [f"clip{k}.wav" for k in range(12)]
    assert {row["source"] for row in rows} == {"whisper/faster-whisper"}
    assert not marks(tmp_path)


SLOW = """
import pathlib, sys, tempfile, time
sys.path.insert(0, sys.argv[1])
from data_prep.commands import shared
from data_prep.speech import cache
from helpers import recognising as t
folder, engine_name, put = pathlib.Path(sys.argv[2]), sys.argv[3], cache.Cache.put

class Slow(t.Counting):
    def transcribe(self, waveforms, languages):
        if self.calls >= 2:
            (folder / "begun").touch()
            time.sleep(4)
        said = super().transcribe(waveforms, languages)
        for _ in waveforms:
            tempfile.mkstemp(".heard", dir=folder)
        return said

def slow_put(self, *given):
    time.sleep(0.3)
    put(self, *given)

def command():
    cache.Cache.put = slow_put
    t.run(folder, [t.sample(path) for path in sorted(folder.glob("*.wav"))], Slow(), engine=engine_name)
    return 0

sys.exit(shared.run("transcribe", command))
"""


@pytest.mark.parametrize("engine", ["faster-whisper", "transformers"])
def test_an_impatient_stop_loses_nothing_either(engine, tmp_path):
    """A second Ctrl-C while the pieces under way are heard, two at a time, or while those that were heard are kept."""
    for seconds in (870, 900):
        write_media(tmp_path / f"{seconds}.wav", sound=noise(seconds))
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, str(REPOSITORY / "tests"), str(tmp_path), engine],
        env=os.environ | {"OMP_NUM_THREADS": "2"},
        stderr=subprocess.PIPE,
        text=True,
    )
    begun = time.monotonic()
    while not (tmp_path / "begun").exists():
        assert process.poll() is None and time.monotonic() - begun < 60
        time.sleep(0.05)
    time.sleep(0.5)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.15)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in said
    assert "what is being heard is heard to its end and kept" in said
    heard = len(list(tmp_path.glob("*.heard")))
    assert heard > 2 and kept_pieces(tmp_path) == heard and not marks(tmp_path)
    assert heard <= (4 if engine == "faster-whisper" else 32)


def test_a_stop_does_not_wait_for_weights(tmp_path):
    """Ctrl-C while they load, as out of a network: no piece is heard after that, and no mark is left."""
    write_media(tmp_path / "long.wav", sound=noise(200))
    program = """
import pathlib, sys, time
sys.path.insert(0, sys.argv[1])
from data_prep.commands import shared
from data_prep.speech import recognise
from helpers import recognising as t
folder = pathlib.Path(sys.argv[2])

def load(*_):
    (folder / "begun").touch()
    time.sleep(60)

def command():
    recognise.whisper.load = load
    task = t.task(folder, engine="faster-whisper")
    del task._loaded["engine"]
    list(task.stream([str(folder / "long.wav")]))

sys.exit(shared.run("transcribe", command))
"""
    process = subprocess.Popen([sys.executable, "-c", program, str(REPOSITORY / "tests"), str(tmp_path)])
    begun = time.monotonic()
    while not (tmp_path / "begun").exists():
        assert process.poll() is None and time.monotonic() - begun < 60
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130 and not marks(tmp_path) and kept_pieces(tmp_path) == 0


def test_another_thread_stops_it(tmp_path, monkeypatch):
    """As the index does, whose files are read in threads."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    write_media(tmp_path / "long.wav", sound=noise(300))
    stop = threading.Event()

    class Third(Counting):
        def transcribe(self, waveforms, languages):
            said = super().transcribe(waveforms, languages)
            if self.calls == 3:
                stop.set()
            return said

    first, again, path = Third(), Counting(), str(tmp_path / "long.wav")
    with pytest.raises(Stopped):
        list(task(tmp_path, first, engine="faster-whisper").stream([path], stop=stop))
    assert first.pieces == kept_pieces(tmp_path) == 3 and not marks(tmp_path)
    [(_, result)] = task(tmp_path, again, engine="faster-whisper").stream([path])
    assert len(result["segments"]) == first.pieces + again.pieces


def test_a_stop_while_it_ends_by_itself_is_not_swallowed(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    second = threading.Event()

    class Second(Counting):
        def transcribe(self, waveforms, languages):
            if self.calls == 1:
                second.set()
                time.sleep(1)  # it is being closed
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
                time.sleep(0.5)
            return super().transcribe(waveforms, languages)

    paths = [one.video for one in write_sounds(tmp_path, 6)]
    results = task(tmp_path, Second(), engine="faster-whisper").stream(paths)
    next(results)
    assert second.wait(60)
    with pytest.raises(KeyboardInterrupt):
        results.close()
    assert not marks(tmp_path)


@pytest.mark.parametrize("engine", ["faster-whisper", "transformers"])
def test_a_deadly_file_whose_sound_begins_early_ends_no_run(engine, tmp_path, monkeypatch):
    monkeypatch.setattr(recognise.samples, "begin", lambda path: -0.5)
    recogniser = task(tmp_path, engine=engine)
    paths = [one.video for one in write_sounds(tmp_path, 2)]
    recogniser.cache.mark(recogniser._description(paths[0]), 2)
    results = dict(recogniser.stream(paths, leave_deadly=True))
    assert results[paths[0]] == {"deadly": True} and results[paths[1]]["segments"][0]["start"] == -0.5


def test_copies_lose_nothing_of_each_other(tmp_path):
    """Two are under way with other pieces when the run is stopped."""
    for name in "ab":
        write_media(tmp_path / f"{name}.wav", sound=noise(240))
    paths = [str(tmp_path / f"{name}.wav") for name in "ab"]

    class Fourth(Counting):
        def transcribe(self, waveforms, languages):
            if self.calls == 3:
                raise KeyboardInterrupt
            return super().transcribe(waveforms, languages)

    first = Fourth()
    first.batch = 3
    with pytest.raises(KeyboardInterrupt):
        task(tmp_path, first)(paths)
    assert kept_pieces(tmp_path) >= 7  # of the nine heard, the first two are copies of one piece


def test_who_takes_one_result_of_a_batch_loses_none_of_the_others(tmp_path):
    paths, first, again = [one.video for one in write_sounds(tmp_path, 3)], Counting(), Counting()

    def made(engine):
        recognise = task(tmp_path, engine)
        recognise.batch_size = 3
        return recognise

    results = made(first).stream(paths)
    next(results)
    results.close()
    assert first.pieces == 3 and len(made(again)(paths)) == 3 and again.pieces == 0


@pytest.mark.parametrize("at", [2, 3])
def test_a_stop_of_an_engine_that_takes_batches_loses_the_batch(at, tmp_path):
    """Five files in one group, of which the second and the third last 60 s: pieces of two or three files a batch."""
    samples = write_sounds(tmp_path)
    for number in (1, 2):
        write_media(Path(samples[number].video), sound=noise(59 + number))

    class Stopped(Counting):
        def transcribe(self, waveforms, languages):
            if self.calls + 1 == at:
                raise KeyboardInterrupt
            return super().transcribe(waveforms, languages)

    def made(engine):
        engine.batch = 3
        recognise = task(tmp_path, engine)
        recognise.batch_size = 5
        return recognise

    paths, first, again = [sample.video for sample in samples], Stopped(), Counting()
    with pytest.raises(KeyboardInterrupt):
        made(first)(paths)
    assert entries(tmp_path) == {2: 1, 3: 3}[at]  # the short files of the batches before
    results = made(again)(paths)
    assert sum(result["cached"] for result in results) == {2: 1, 3: 3}[at]
    assert first.pieces + again.pieces == 9  # of the long files, too
    assert [len(result["segments"]) for result in results] == [1, 3, 3, 1, 1]


@pytest.mark.parametrize("engine", ["faster-whisper", "transformers"])
def test_a_long_file_that_was_killed_goes_on_at_its_block(engine, tmp_path, monkeypatch):
    """Blocks of 60 s; the process dies in the third."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    write_media(tmp_path / "long.wav", sound=noise(200))
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import pathlib; from data_prep.speech import vad; "
        "vad.BLOCK_SECONDS = 60; from helpers import recognising as t; folder = pathlib.Path(sys.argv[2]); "
        "engine = t.Counting(fails_at=6); engine.batch = 1; "
        "t.run(folder, [t.sample(folder / 'long.wav')], engine, engine=sys.argv[3])"
    )
    done = subprocess.run([sys.executable, "-c", program, str(REPOSITORY / "tests"), str(tmp_path), engine], timeout=60)
    assert done.returncode == -9 and entries(tmp_path) == 0
    monkeypatch.setattr(vad, "BLOCK_SECONDS", 60)
    whole, again = Counting(), Counting()
    _, [row] = run(tmp_path, [sample(tmp_path / "long.wav")], again, engine=engine)
    (tmp_path / "other").mkdir()
    _, [expected] = run(tmp_path / "other", [sample(tmp_path / "long.wav")], whole, engine=engine)
    assert row == expected and 0 < again.pieces < whole.pieces
    assert len(list((tmp_path / "cache").glob("*/*"))) == 1  # the pieces have made room for the result


def test_pieces_of_one_file_are_heard_side_by_side(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    write_media(tmp_path / "long.wav", sound=noise(150))

    class Together(Counting):
        """Three are under way at a time, or it fails."""

        meeting = threading.Barrier(3, timeout=60)

        def transcribe(self, waveforms, languages):
            self.meeting.wait()
            return super().transcribe(waveforms, languages)

    long = [sample(tmp_path / "long.wav")]
    result, [row] = run(tmp_path, long, Together(), engine="faster-whisper", language="en")
    assert not result["problems"] and len(row["segments"]) == 6


def test_a_file_at_which_the_process_dies_costs_itself_alone(tmp_path):
    """Twice the run dies with it; the third hears it in a process of its own."""
    samples = write_sounds(tmp_path)
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "if __name__ == '__main__':\n"
        "    import pathlib; from helpers import recognising as t; folder = pathlib.Path(sys.argv[2])\n"
        "    t.run(folder, [t.sample(p) for p in sorted(folder.glob('*.wav'))], kind=t.Deadly)\n"
    )
    (tmp_path / "program.py").write_text(program)
    command = [sys.executable, str(tmp_path / "program.py"), str(REPOSITORY / "tests"), str(tmp_path)]
    assert [subprocess.run(command, timeout=60).returncode for _ in range(3)] == [-9, -9, 0]
    rows = json.loads((tmp_path / "transcripts.json").read_text())
    assert [row["key"] for row in rows] == [Path(one.video).name for one in samples]
    assert [row["key"] for row in rows if "problem" in row] == ["clip2.wav"]
    assert "the worker process died on this clip" in rows[2]["problem"]


def test_copies_of_a_file_are_no_deaths_of_each_other(tmp_path):
    """Four are under way at a time, in a run after one that died."""
    for number in range(4):
        write_media(tmp_path / f"copy{number}.wav", sound=noise(1))
    recognise = task(tmp_path)
    recognise.batch_size = 4
    paths = [str(tmp_path / f"copy{number}.wav") for number in range(4)]
    recognise.cache.mark(recognise._description(paths[0]), 1)
    results = dict(recognise.stream(paths, leave_deadly=True))
    assert [results[path]["segments"][0]["text"] for path in paths] == [" Number 10 is said."] * 4


def test_a_cache_that_cannot_be_written_ends_the_run_at_once(tmp_path):
    write_sounds(tmp_path, 2)
    program = """
import pathlib, resource, sys
sys.path.insert(0, sys.argv[1])
from helpers import recognising as t
folder, engine = pathlib.Path(sys.argv[2]), t.Counting()
resource.setrlimit(resource.RLIMIT_FSIZE, (9, 9))
try:
    t.run(folder, [t.sample(path) for path in sorted(folder.glob("*.wav"))], engine, engine="faster-whisper")
except ValueError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(REPOSITORY / "tests"), str(tmp_path)], timeout=60, capture_output=True
    )
    assert f"the cache {tmp_path / 'cache'} cannot be used (File too large)" in done.stdout.decode(), done.stderr
    assert not (tmp_path / "transcripts.json").exists()


@pytest.mark.parametrize("engine", ["faster-whisper", "transformers"])
def test_a_full_disk_is_no_death_of_what_was_under_way(engine, tmp_path):
    class Full(Cache):
        def put(self, description, result):
            raise self._unusable(OSError(28, "No space left on device"))

    paths = [one.video for one in write_sounds(tmp_path, 4)]
    for _ in range(3):
        recognise = task(tmp_path, engine=engine)
        recognise.cache = Full(str(tmp_path / "cache"))
        with pytest.raises(CacheError, match="No space left"):
            list(recognise.stream(paths, leave_deadly=True))
        assert not marks(tmp_path)
    results = dict(task(tmp_path, engine=engine).stream(paths, leave_deadly=True))
    assert [len(results[path]["segments"]) for path in paths] == [1] * 4


def test_a_stop_forgets_no_earlier_death(tmp_path):
    class Stopped(Counting):
        def transcribe(self, waveforms, languages):
            raise KeyboardInterrupt

    recognise = task(tmp_path, Stopped())
    [path] = [one.video for one in write_sounds(tmp_path, 1)]
    recognise.cache.mark(recognise._description(path), 1)
    with pytest.raises(KeyboardInterrupt):
        recognise([path])
    assert marks(tmp_path) == ["1"]


def test_what_a_death_left_beside_a_result_goes(tmp_path):
    """The process died when the result was kept, and before its pieces and its mark were taken away."""
    [path] = [one.video for one in write_sounds(tmp_path, 1)]
    recognise_ = task(tmp_path)
    recognise_([path])
    of = recognise_._description(path)
    recognise_.cache.put(recognise._pieces_of(of), {"0.0000+16000": {}})
    recognise_.cache.mark(of, 1)
    assert recognise_([path])[0]["cached"]
    assert kept_pieces(tmp_path) == 0 and not marks(tmp_path)


def test_shares_are_told_of_what_is_heard(tmp_path, monkeypatch):
    """The longest pieces of a block come first: a share is of the block, not where the piece stands."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(vad, "BLOCK_SECONDS", 90)
    write_media(tmp_path / "long.wav", sound=noise(200))
    engine, told = Counting(), []

    def tell(path, share):
        assert path == str(tmp_path / "long.wav")
        told.append((share, engine.pieces))

    list(task(tmp_path, engine, engine="faster-whisper").stream([str(tmp_path / "long.wav")], tell))
    shares = [share for share, _ in told]
    assert len(told) >= engine.pieces and shares == sorted(shares) and shares[-1] == 1
    assert all(abs(share - pieces / engine.pieces) < 0.2 for share, pieces in told)


def test_what_an_earlier_run_has_heard_is_told_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(vad, "BLOCK_SECONDS", 90)
    write_media(tmp_path / "long.wav", sound=noise(200))
    path, told = str(tmp_path / "long.wav"), []
    stop = threading.Event()

    class Sixth(Counting):
        def transcribe(self, waveforms, languages):
            if self.calls == 5:
                stop.set()
            return super().transcribe(waveforms, languages)

    with pytest.raises(Stopped):
        list(task(tmp_path, Sixth(), engine="faster-whisper").stream([path], stop=stop))
    list(task(tmp_path, engine="faster-whisper").stream([path], lambda _, share: told.append(share)))
    assert 0.5 < told[0] < 1 and told == sorted(told) and told[-1] == 1


def test_weights_that_were_missing_may_be_there_the_next_time(tmp_path, monkeypatch):
    def missing(*_):
        raise ValueError("no weights yet")

    paths, recogniser = [one.video for one in write_sounds(tmp_path, 2)], task(tmp_path, engine="faster-whisper")
    engine = recogniser._loaded.pop("engine")
    monkeypatch.setattr(recognise.whisper, "load", missing)
    with pytest.raises(ModelError, match="no weights yet"):
        list(recogniser.stream(paths))
    monkeypatch.setattr(recognise.whisper, "load", lambda *_: engine)
    assert len(list(recogniser.stream(paths))) == engine.pieces == 2


def test_a_file_that_goes_between_two_looks_stops_nothing(tmp_path, monkeypatch):
    def gone(path):
        raise MediaError(f"{path}: No such file or directory")

    monkeypatch.setattr(recognise.samples, "promised_seconds", gone)
    [result] = task(tmp_path)([write_sounds(tmp_path, 1)[0].video])
    assert "No such file" in result["problem"] and not marks(tmp_path)


def test_a_file_with_a_piece_that_fails_is_heard_no_further(tmp_path):
    """And what was heard of it is kept: a busy GPU has memory again tomorrow."""
    write_media(tmp_path / "long.wav", sound=noise(150))
    path, again = str(tmp_path / "long.wav"), Counting()

    class Third(Counting):
        def transcribe(self, waveforms, languages):
            if self.calls == 2:
                self.calls += 1
                raise RuntimeError("out of memory")
            return super().transcribe(waveforms, languages)

    first = Third()
    first.batch = 1
    [result] = task(tmp_path, first)([path])
    assert result["problem"] == "RuntimeError: out of memory" and first.pieces == kept_pieces(tmp_path) == 2
    assert first.calls == 3
    [result] = task(tmp_path, again)([path])
    assert len(result["segments"]) == 6 and again.pieces == 4


class Broken(Counting):
    """Fails at its second piece, with an error of its own."""

    def transcribe(self, waveforms, languages):
        if self.calls == 1:
            self.calls += 1
            raise RuntimeError("out of tokens")
        return super().transcribe(waveforms, languages)


def test_an_engine_that_fails_at_one_file_hears_its_neighbours(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    samples = write_sounds(tmp_path, 6)
    result, rows = run(tmp_path, samples, Broken(), engine="faster-whisper")
    assert list(result["problems"].values()) == ["RuntimeError: out of tokens"]
    assert sum("problem" not in row for row in rows) == 5 and len(list((tmp_path / "cache").glob("*/*.json"))) == 5


def test_a_batch_with_one_clip_at_which_the_engine_fails_costs_that_clip(tmp_path):
    class Allergic(Counting):
        """Cannot take a sound of 1.2 s, whatever is heard with it."""

        def transcribe(self, waveforms, languages):
            if any(len(sound) == 1.2 * RATE for sound in waveforms):
                raise RuntimeError("out of tokens")
            return super().transcribe(waveforms, languages)

    engine = Allergic()
    recognise = task(tmp_path, engine)
    recognise.batch_size = 5
    results = recognise([sample.video for sample in write_sounds(tmp_path)])
    assert results[2] == {"problem": "RuntimeError: out of tokens", "cached": False}
    assert [len(result.get("segments", ())) for result in results] == [1, 1, 0, 1, 1]
    assert engine.pieces == 4 and len(list((tmp_path / "cache").glob("*/*.json"))) == 4
