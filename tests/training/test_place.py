"""Where a run may lie: one training at a time, where folders can be renamed, and in no object store."""

import os
import subprocess
import sys

import pytest
from helpers.corpus import make_clip, write_corpus
from helpers.made_run import make_run, plain_clips, replace_test_split

from save_jax import main
from save_jax.config import resolve
from save_jax.inference import runs
from save_jax.methods import run as method_run
from save_jax.training import place

HOLD = """
import sys
from save_jax.training import place
with place.alone_in(sys.argv[1]):
    print("in", flush=True)
    input()
"""


def test_two_trainings_do_not_share_a_workdir(config, tmp_path):
    workdir = str(make_run(tmp_path, "vision", plain_clips(8)))
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, workdir], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "in\n"
    before = sorted(os.listdir(os.path.join(workdir, "checkpoints")))
    with pytest.raises(ValueError, match=rf"another training is running in .*process {process.pid} on "):
        method_run.train(config, workdir)
    assert main.evaluate(runs.read_config(workdir), workdir)["test"]["t2v"]  # it only reads
    assert sorted(os.listdir(os.path.join(workdir, "checkpoints"))) == before
    process.kill()
    process.wait()
    with place.alone_in(workdir):  # what a killed process held is free
        pass


def test_a_workdir_that_was_not_there_is_removed_where_nothing_came_into_it(tmp_path):
    for _ in range(2):
        with pytest.raises(ValueError, match="no data"), place.alone_in(str(tmp_path / "a" / "b")):
            raise ValueError("no data")
        assert not (tmp_path / "a" / "b").exists()


@pytest.mark.parametrize("broken", ["refuses", "copies", "loses"])
def test_a_place_that_cannot_rename_folders_is_refused_at_the_start(broken, config, tmp_path, monkeypatch):
    rename = os.rename

    def other(before, after):
        if broken == "refuses":
            raise OSError(95, "Operation not supported")
        rename(before, after)
        if broken == "copies":
            os.mkdir(before)
        else:
            os.remove(os.path.join(after, "file"))

    monkeypatch.setattr(os, "rename", other)
    with pytest.raises(ValueError, match=r"does not rename folders .* give a --workdir on a disk"):
        method_run.train(config, str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_the_address_of_a_bucket_is_refused_at_the_start(mode, config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=r"--workdir gs://mine/run is an address, .* give a local folder and copy"):
        main.run(config, "gs://mine/run", mode)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_split_without_captions_is_refused_at_the_start(split, config, tmp_path):
    write_corpus(tmp_path / "shards", {"train": 16, "val": 8, "test": 8})
    bare = [make_clip(number, "test", 0) for number in range(8)]
    replace_test_split(tmp_path / "shards", bare)
    config = config.copy_and_resolve_references().unlock()
    config.data_dir = str(tmp_path / "shards")
    if split == "val":
        config.data.val_split, config.data.test_split = "test", "val"
    with pytest.raises(ValueError, match=r"split 'test' of .* has no captions, so nothing can be ranked"):
        method_run.train(resolve(config), str(tmp_path / "run"))
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
