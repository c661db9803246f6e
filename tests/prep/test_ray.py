"""The same build on Ray: a local cluster of two CPUs stands for a real one."""

import logging
import os
import signal
import sys
import time

import pytest
from helpers import media

from data_prep import corpora, runners
from data_prep.clip import prepare
from data_prep.commands import build
from save_jax.data import records

ray = pytest.importorskip("ray", reason="an extra: pip install -c constraints.txt -e '.[prep,ray]'")
SPLITS = {"train": [f"video{k}" for k in range(5)], "val": ["video5"], "test": ["video6", "video7"]}
SETTINGS = {"corpus": "demo", "image_size": 32, "max_frames": 12, "frames": "jpeg"}


@pytest.fixture(scope="module")
def cluster():
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return media.write_corpus(tmp_path_factory.mktemp("corpus") / "root", SPLITS, missing=["video1", "video7"])


def run(root, out, runner, function=prepare) -> dict:
    corpus = corpora.CORPORA["msrvtt-9k"]
    return build.build(corpus, str(root), str(out), SETTINGS, 2, runner, function, partial=True)


def trouble(sample, settings):
    if sample.id == "video0":
        os.kill(os.getpid(), signal.SIGKILL)
    if sample.id == "video6":
        time.sleep(60)
    return prepare(sample, settings)


def pause(item: int) -> int:
    """Dies, hangs and fails on three items; results arrive out of order."""
    match item:
        case 4:
            os._exit(1)
        case 5:
            time.sleep(60)
        case 6:
            raise ValueError("a file \udcff")
    time.sleep(0.05 * (3 - item % 3))
    return item


def test_shards_have_the_bytes_that_processes_here_give(cluster, root, tmp_path):
    results = {
        name: run(root, tmp_path / name, runner)
        for name, runner in (("local", runners.Local(2, 60)), ("ray", runners.Ray(2, 60)))
    }
    assert results["local"] == results["ray"] and list(results["ray"]["failed"]) == ["video1", "video7"]
    names = sorted(path.name for path in (tmp_path / "local").glob("[!.]*"))
    assert names == sorted(path.name for path in (tmp_path / "ray").glob("[!.]*")) and len(names) > 12
    for name in names:
        assert (tmp_path / "ray" / name).read_bytes() == (tmp_path / "local" / name).read_bytes(), name


def test_killed_and_slow_workers_cost_their_clips_alone(cluster, root, tmp_path):
    result = run(root, tmp_path, runners.Ray(2, 3.0), trouble)
    assert result["failed"].keys() == {"video0", "video1", "video6", "video7"}
    assert "the worker process died on this clip" in result["failed"]["video0"]
    assert "took longer than the limit of 3 s" in result["failed"]["video6"]
    assert result["written"]["train"] == ["video2", "video3", "video4"]
    for split in SPLITS:
        for path in records.split_shards(str(tmp_path), split):
            records.verify_shard(path)


def test_a_second_run_and_more_workers_than_fit(cluster):
    """Five actors on two CPUs: the fifth waits for room, and the work is done without it."""
    with runners.Ray(5, 3.0) as runner:
        results = list(runner.run(pause, range(10)))
        assert [result for result in results if not isinstance(result, runners.Failure)] == [0, 1, 2, 3, 7, 8, 9]
        assert [result.reason[:20] for result in results[4:7]] == [
            "the worker process d",
            "took longer than the",
            "a file \\udcff",
        ]
        assert list(runner.run(abs, [-1, -2])) == [1, 2]
    assert ray.is_initialized()  # not ours to end


def test_what_the_cluster_lacks_is_told(cluster):
    with (
        pytest.raises(ValueError, match="the Ray cluster has 0 GPUs, and each worker wants 1"),
        runners.Ray(1, 9, gpus=1),
    ):
        pass
    with runners.Ray(None, 9, gpus=None) as runner:  # as many as fit, with a GPU where there are any
        assert (runner._jobs, runner._gpus) == (2, 0)
