"""Input: tokens, frame choice, a global seeded shuffle, an exact resume, batches shared by several hosts."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import grain
import numpy as np
import pytest
from helpers.corpus import make_clip
from helpers.places import GOLDEN

from save_jax.data import pipeline, workers
from save_jax.data.tokenizer import Tokenizer, learn


def take(config, count: int, **options) -> list[dict]:
    iterator = pipeline.train_iterator(pipeline.Data(config, ("train",)), config, **options)
    batches = [next(iterator) for _ in range(count)]
    iterator.close()
    return batches


def equal(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def joined(parts: list[dict]) -> dict:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def test_same_seed_same_batches_and_every_pair_once_an_epoch(config):
    batches = take(config, 6)  # 24 clips with 2 captions: 6 batches of 8
    assert all(equal(a, b) for a, b in zip(batches, take(config, 6), strict=True))
    clips = np.concatenate([batch["clip"] for batch in batches])
    np.testing.assert_array_equal(np.bincount(clips), np.full(24, 2))
    assert not np.array_equal(clips, np.sort(clips))
    other = config.copy_and_resolve_references()
    other.seed = 1
    assert not equal(batches[0], take(other, 1)[0])


def test_epochs_are_shuffled_anew(config):
    batches = take(config, 12)
    assert not np.array_equal(batches[0]["clip"], batches[6]["clip"])


def test_starting_at_a_batch_gives_what_an_unstopped_run_sees(config):
    straight = take(config, 9)
    assert all(equal(a, b) for a, b in zip(straight[5:], take(config, 4, start=5), strict=True))


@pytest.mark.parametrize("start", [0, 3, 7])
def test_hosts_share_the_batches_of_one(config, start):
    """In order and side by side: what several processes read is, put together, what one reads."""
    whole = take(config, 3, start=start)
    for processes in (1, 2, 4):
        parts = [take(config, 3, start=start, process=p, processes=processes) for p in range(processes)]
        for step, batch in enumerate(whole):
            assert equal(batch, joined([part[step] for part in parts]))


def test_hosts_share_the_batches_of_an_evaluation(config):
    data = pipeline.Data(config, ("test",))
    whole = list(pipeline.eval_batches(data, config, "test"))
    for processes in (2, 4):
        parts = [
            list(pipeline.eval_batches(data, config, "test", process=p, processes=processes)) for p in range(processes)
        ]
        assert len(whole) == 2
        assert all(equal(batch, joined(rows)) for batch, *rows in zip(whole, *parts, strict=True))


def test_batches_that_processes_cannot_share_are_refused(config):
    with pytest.raises(ValueError, match="batch_size 8 is not divisible by 3 processes"):
        take(config, 1, process=0, processes=3)


@pytest.mark.parametrize("workers", [1, 3])
def test_worker_processes_give_the_same_batches_in_the_same_order(config, workers):
    straight = take(config, 9)
    config = config.copy_and_resolve_references().unlock()
    config.data.workers = workers
    before = processes()
    assert all(equal(a, b) for a, b in zip(straight[4:], take(config, 5, start=4), strict=True))
    assert processes() == before  # closing leaves none behind


def processes() -> set[int]:
    return {process.pid for process in multiprocessing.active_children()}


def test_workers_import_no_model_and_answer_no_signal():
    """grain itself imports jax and orbax; what would open a device or take long to import stays out."""

    def loaded(_: int) -> np.ndarray:  # in here, so that it is sent whole: this module imports all of them
        modules = ("flax", "optax", "transformers", "save_jax.models", "save_jax.main")
        return np.array([name in sys.modules for name in modules])

    iterator = workers.iterate(grain.MapDataset.source(range(4)).map(loaded), 1, 1, 1)
    assert not next(iterator).any()
    (child,) = multiprocessing.active_children()
    os.kill(child.pid, signal.SIGINT)
    os.kill(child.pid, signal.SIGTERM)  # both come to the whole group; the parent decides
    assert len(list(iterator)) == 3
    iterator.close()


SCRIPT = """
import multiprocessing
import grain
from save_jax.data import workers

iterator = workers.iterate(grain.MapDataset.range(10**9), 1, 2, 1)
next(iterator)
print(*[child.pid for child in multiprocessing.active_children()], flush=True)
for _ in iterator:
    pass
"""


def test_no_worker_outlives_the_program(tmp_path):
    """However it ends. Nor does a script without a __main__ guard start itself again in its workers."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    programs = {
        how: subprocess.Popen(
            [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        for how in ("SIGKILL", "SIGINT")
    }
    try:
        for how, program in programs.items():
            children = [int(pid) for pid in program.stdout.readline().split()]
            assert len(children) == 1, how
            program.send_signal(signal.Signals[how])
            program.wait(60)
            program.stdout.close()
            deadline = time.monotonic() + 60
            while any(os.path.exists(f"/proc/{pid}") for pid in children):
                assert time.monotonic() < deadline, f"{how}: {children} live on"
                time.sleep(0.05)
    finally:
        for program in programs.values():
            program.kill()


STUCK = """
import gc
import multiprocessing
import sys
import grain
from save_jax.data import workers

workers._PATIENCE = 1
iterator = workers.iterate(grain.MapDataset.range(10**9), 1, 2, 1)
next(iterator)
child, = multiprocessing.active_children()
print(child.pid, flush=True)
for reader in gc.get_objects():
    if type(reader).__name__ == "ProcessPrefetchDatasetIterator":
        # As where a process was killed, or a thread interrupted, while it held one of grain's locks.
        assert reader._prefetch_should_stop._cond.acquire(timeout=30)
        print("locked", flush=True)
other = workers.iterate(grain.MapDataset.range(10**9), 1, 2, 1)  # nothing is wrong with this one
assert next(other) == 0
if sys.argv[1] == "closed":
    iterator.close()
    assert [next(other) for _ in range(10)] == [*range(1, 11)]
    assert [one.pid for one in multiprocessing.active_children() if one.pid != child.pid]
elif sys.argv[1] == "interrupted":
    raise KeyboardInterrupt
"""


@pytest.mark.parametrize("how", ["closed", "interrupted", "at its end"])
def test_the_program_ends_where_grain_does_not(how, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(STUCK)
    command = [sys.executable, str(script), how]
    with open(tmp_path / "errors", "w+") as errors:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=errors, text=True, timeout=120)
        errors.seek(0)
        said = errors.read()
    assert "Exception ignored in: <generator object _from_workers" not in said
    assert done.returncode == (-signal.SIGINT if how == "interrupted" else 0), said
    child, locked = done.stdout.split()
    assert locked == "locked"
    assert not os.path.exists(f"/proc/{child}")


IN_A_LOCK = """
import sys
import threading
import grain
from save_jax.data import workers

def interrupt_in_a_lock(frame, event, value):
    if frame.f_code is threading.Condition.__enter__.__code__:
        if event == "return":
            raise KeyboardInterrupt  # as Ctrl-C does: the lock is closed, and the `with` has not begun
        return interrupt_in_a_lock

iterator = workers.iterate(grain.MapDataset.range(10**9), 1, 2, 1)
next(iterator)
if sys.argv[1] == "interrupted":
    sys.settrace(interrupt_in_a_lock)
    for number in iterator:
        if number == 1000:
            sys.settrace(None)
            raise KeyboardInterrupt
print("left open")
"""


@pytest.mark.parametrize("how", ["interrupted", "left open"])
def test_the_program_ends_wherever_ctrl_c_found_it(tmp_path, how):
    """An interrupt in the midst of a queue's lock left it closed for ever, and the program hung."""
    script = tmp_path / "script.py"
    script.write_text(IN_A_LOCK)
    program = subprocess.run([sys.executable, str(script), how], timeout=120, capture_output=True, text=True)
    if how == "interrupted":
        assert program.returncode == -signal.SIGINT and "KeyboardInterrupt" in program.stderr, program
    else:
        assert program.returncode == 0 and program.stdout == "left open\n", program


def test_more_than_the_shared_memory_is_refused():
    with pytest.raises(ValueError, match=r"needs up to .* GiB of shared memory, /dev/shm has .* --shm-size"):
        workers.iterate(grain.MapDataset.range(4), 2, 8, 1 << 50)


def test_batches_are_put_ahead():
    put = []
    got = pipeline.prefetch(iter(range(5)), lambda number: put.append(number) or number * 10, ahead=2)
    assert next(got) == 0 and put == [0, 1, 2]
    assert next(got) == 10 and put == [0, 1, 2, 3]
    assert list(got) == [20, 30, 40]


def test_eval_batches_hold_every_clip_in_order(config):
    data = pipeline.Data(config, ("test",))
    batches = list(pipeline.eval_batches(data, config, "test"))
    assert [len(batch["frames"]) for batch in batches] == [8, 8]
    sound = np.concatenate([batch["has_audio"] for batch in batches])[:13]
    np.testing.assert_array_equal(sound, [data.sources["test"][i].fbank is not None for i in range(13)])


def test_absent_sound_and_speech_are_zeros_with_a_flag(config):
    to_arrays = pipeline.Data(config, ("train",)).clip_to_arrays
    arrays = to_arrays(make_clip(0, "train", transcript="abc"))
    assert not arrays["has_audio"] and not arrays["has_teacher"] and not arrays["fbank"].any()
    assert not arrays["speech_ids"].any()  # under five characters: missing
    assert to_arrays(make_clip(1, "train"))["has_audio"]


def test_frames_are_chosen_evenly_and_padded(config):
    to_arrays = pipeline.Data(config, ("train",)).clip_to_arrays  # wants 2 frames
    clip = make_clip(1, "train")
    clip.frames = [clip.frames[0]] * 5 + [make_clip(2, "train").frames[0]]
    arrays = to_arrays(clip)
    assert arrays["frame_mask"].tolist() == [True, True]
    assert not np.array_equal(arrays["frames"][0], arrays["frames"][1])  # first and last
    clip.frames = clip.frames[:1]
    arrays = to_arrays(clip)
    assert arrays["frame_mask"].tolist() == [True, False] and not arrays["frames"][1].any()


def test_too_few_pairs_for_a_batch_are_refused(config):
    config = config.copy_and_resolve_references().unlock()
    config.batch_size = 64
    with pytest.raises(ValueError, match="has 48 pairs, less than one batch of 64"):
        pipeline.train_iterator(pipeline.Data(config, ("train",)), config)


@pytest.fixture(scope="module")
def learned(tmp_path_factory) -> Tokenizer:
    directory = str(tmp_path_factory.mktemp("tokenizer"))
    learn(["a red car sings on the beach", "the red bird talks about bread, it's good"] * 2, directory, 600)
    return Tokenizer(directory)


def test_tokens_have_start_end_and_padding(learned):
    ids = learned("A  RED&amp;amp; car", 10)
    assert ids[0] == learned.start and learned.end == learned.vocab_size - 1
    end = int(np.argmax(ids))
    assert ids[end] == learned.end and not ids[end + 1 :].any()
    np.testing.assert_array_equal(ids, learned("a red& car", 10))


@pytest.mark.parametrize("text", ["🎉🙂 party 日本", "word " * 500, "", "dog", "ab"])
def test_odd_queries_keep_their_end(learned, text):
    """Emoji, 500 words, nothing, short ones: all fit, and the end of text is found. The reference blanks short ones."""
    ids = learned(text, 12)
    assert ids.shape == (12,) and ids.max() == learned.end and ids[0] == learned.start
    assert (ids[1] != learned.end) == bool(text)


def test_learning_is_deterministic(tmp_path):
    texts = ["a red car sings on the beach", "the red bird talks about bread, it's good"] * 2
    for name in ("one", "other"):
        learn(texts, str(tmp_path / name), 600)
    for file in ("vocab.json", "merges.txt"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes()
    assert len(Tokenizer(str(tmp_path / "one")).pieces("red bird")) == 2  # whole words were learned


def test_clip_ids(tmp_path):
    """Ids of the reference's own tokenizer for odd strings, on the part of CLIP's merge table that they need."""
    import json

    reference = json.loads((GOLDEN / "clip_tokens.json").read_text())
    (tmp_path / "vocab.json").write_text(json.dumps(reference["vocab"]))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(reference["merges"]) + "\n")
    tokenizer = Tokenizer(str(tmp_path))
    inverse = reference["ids"]  # of the reduced table → CLIP's
    for case in reference["cases"]:
        assert [inverse[i] for i in tokenizer.pieces(case["text"])] == case["bpe_ids"], case["text"]
