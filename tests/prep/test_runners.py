"""Runners: results in order, and what an item does to its worker stays with that item."""

import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from helpers.work import Counting, Trouble, Unloadable, killed_while_sending, slow_first, square

from data_prep import runners
from data_prep.runners.pool import _AHEAD

FAILURE = runners.Failure


def test_results_come_in_order_from_every_runner():
    wanted = [k**2 for k in range(13)]
    assert list(runners.Here().run(square, range(13))) == wanted
    with runners.Local(2, 30) as runner:
        assert list(runner.run(square, iter(range(13)))) == wanted
        assert list(runner.run(square, [])) == []
        assert list(runner.run(square, [5])) == [25]  # a second and third run of one runner


def test_trouble_costs_its_item_alone():
    items = ["a", "crash", "b", "exit", "value", "stop", "odd", "c", "sleep", "d"]
    died = FAILURE("the worker process died on this clip (a crash in a decoder, or no memory left)")
    late = FAILURE("took longer than the limit of 1 s (--time-limit)")
    start = time.monotonic()
    with runners.Local(2, 1.0) as runner:
        results = list(runner.run(Trouble(), items))
    assert results == [
        "a",
        died,
        "b",
        died,
        FAILURE("a file \\udcff"),
        late,
        FAILURE("KeyError: 'missing'"),
        "c",
        late,
        "d",
    ]
    assert time.monotonic() - start < 30  # without the limit "sleep" and "stop" take 60 each


def test_here_keeps_errors_too():
    assert list(runners.Here().run(Trouble(), ["value", "odd", "a"])) == [
        FAILURE("a file \\udcff"),
        FAILURE("KeyError: 'missing'"),
        "a",
    ]


def test_worker_killed_while_it_sends_harms_no_other():
    with runners.Local(2, 20) as runner:
        results = list(runner.run(killed_while_sending, range(12)))
    lost = [number for number, result in enumerate(results) if isinstance(result, FAILURE)]
    assert 2 <= len(lost) <= 3 and {number % 4 for number in lost} <= {1, 2}  # a late timer hits the next
    assert all(len(result) == 4_000_000 for result in results if not isinstance(result, FAILURE))


@pytest.mark.parametrize("jobs", [1, 2])
def test_worker_that_dies_with_nothing_to_do_costs_nothing(jobs):
    with runners.Local(jobs, 20) as runner:
        results = runner.run(square, range(12))
        first = next(results)
        time.sleep(0.5)  # all workers have answered
        for worker in runner._workers:
            os.kill(worker._process.pid, signal.SIGKILL)
        time.sleep(0.1)
        assert [first, *results] == [number**2 for number in range(12)]


def test_task_is_loaded_once_a_worker():
    with runners.Local(2, 30) as runner:
        loads = set(runner.run(Counting(), range(40)))
    assert len({pid for pid, _ in loads}) == len(loads) == 2
    assert os.getpid() not in {pid for pid, _ in loads}


def test_items_are_taken_as_they_are_needed():
    taken = []

    def items():
        for number in range(1000):
            taken.append(number)
            yield number

    with runners.Local(2, 30) as runner:
        results = runner.run(slow_first, items())
        assert next(results) == 0  # meanwhile the other worker could have done hundreds
        assert len(taken) <= 2 * _AHEAD + 1
        assert [next(results) for _ in range(20)] == list(range(1, 21))


def test_wrong_use_is_told():
    with pytest.raises(ValueError, match="0 workers with a limit of 5 s per clip"):
        runners.Local(0, 5)
    with pytest.raises(ValueError, match="1 workers with a limit of 0 s"):
        runners.Local(1, 0)
    with (
        pytest.raises(ValueError, match=r"cannot start: invalid literal for int.*'no number'"),
        runners.Local(1, 9) as r,
    ):
        list(r.run(Unloadable(), [1]))
    with pytest.raises((pickle.PicklingError, AttributeError)), runners.Local(1, 9) as r:
        list(r.run(lambda item: item, [1]))


@pytest.mark.parametrize("ending", ["parent killed", "loop left"])
def test_no_process_is_left_behind(ending, tmp_path):
    script = tmp_path / "leaves.py"
    script.write_text(
        textwrap.dedent("""
            import os, signal, sys, time
            from data_prep import runners
            def pid(number):
                assert signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []), "Ctrl-C is for the parent"
                time.sleep(0.2 if number < 6 else 60)  # a worker may also be inside an item that does not end
                return os.getpid()
            if __name__ == "__main__":
                with runners.Local(2, 30) as runner:
                    results = runner.run(pid, range(100))
                    print(*{next(results) for _ in range(6)}, flush=True)
                    if sys.argv[1] == "parent killed":
                        os.kill(os.getpid(), 9)
        """)
    )
    done = subprocess.run([sys.executable, str(script), ending], capture_output=True, text=True, timeout=120)
    pids = [int(word) for word in done.stdout.split()]
    assert len(pids) == 2 and done.stderr == ""
    deadline = time.monotonic() + 60
    while any(os.path.exists(f"/proc/{pid}") for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in pids if os.path.exists(f"/proc/{pid}")]
