"""Evaluation: nothing of a caption reaches a video, batches do not matter, failed clips stay and rank last."""

import dataclasses
import json
from pathlib import Path

import chex
import numpy as np
import pytest
from helpers.corpus import SETTINGS, make_clip, write_corpus
from helpers.evaluators import evaluator_and_params

from save_jax import main
from save_jax.config import resolve, smoke, vlsa_base
from save_jax.data import records
from save_jax.evaluation.retrieval import gate_table
from save_jax.methods import run as method_run
from save_jax.training import workdir


def test_scores_depend_neither_on_batch_size_nor_on_devices(config):
    evaluator, params = evaluator_and_params(config)
    expected = evaluator.run(params, "test")
    other = config.copy_and_resolve_references().unlock()
    other.batch_size = 16
    for changed, devices in ((other, 1), (config, 8)):
        evaluator, params = evaluator_and_params(resolve(changed), devices)
        found = evaluator.run(params, "test")
        np.testing.assert_allclose(found.scores["t2v"], expected.scores["t2v"], atol=1e-4)
        assert found.results["t2v"] == expected.results["t2v"]


def test_captions_leave_no_trace_in_videos(config, tmp_path):
    """The same clips with captions permuted have the same embeddings."""
    directory = tmp_path / "shards"
    write_corpus(directory, {"test": 8})
    evaluator, params = evaluator_and_params(config)
    embedded = []
    for shift in (0, 3):
        clips = [make_clip(number, "test", 1) for number in range(8)]
        captions = [clip.captions for clip in clips]
        moved = [dataclasses.replace(c, captions=captions[(i + shift) % 8]) for i, c in enumerate(clips)]
        for path in directory.glob("clips-*"):
            path.unlink()
        path = directory / records.shard_name("test", 0, 1)
        records.write_shard(str(path), iter(moved), SETTINGS)
        evaluator.data.sources["test"] = records.ShardSource([str(path)])
        embedded.append(evaluator.embed_videos(params, "test"))
    chex.assert_trees_all_equal(*embedded)


def test_a_failed_clip_stays_in_the_gallery_and_ranks_last(config, tmp_path):
    clips = [make_clip(number, "test", 1) for number in range(6)]
    clips[2] = make_clip(2, "test", 1, frames=[], frame_times=[], fbank=None, failed="test2.mp4: cut short")
    write_corpus(tmp_path, {"test": 6})
    for path in tmp_path.glob("clips-*"):
        path.unlink()
    path = tmp_path / records.shard_name("test", 0, 1)
    records.write_shard(str(path), iter(clips), SETTINGS)
    evaluator, params = evaluator_and_params(config)
    evaluator.data.sources["test"] = records.ShardSource([str(path)])
    found = evaluator.run(params, "test")
    assert found.results["gallery"]["videos"] == found.results["t2v"]["queries"] == 6
    assert found.results["gallery"]["failed"] == {"test2": "test2.mp4: cut short"}
    assert (found.scores["t2v"].argsort(axis=1)[:, 0] == 2).all()  # the lowest score of every query


def test_gate_table_by_hand():
    gates = {"audio": {"attention": np.array([[0.5, -0.5], [0.1, 0.3]]), "mlp": np.zeros((2, 2))}}
    table = gate_table(gates, [["related", "speech"], ["music"]])
    assert table["audio"]["related"] == {"attention": 0.5, "mlp": 0.0, "clips": 1}
    assert table["audio"]["music"]["attention"] == pytest.approx(0.2)


def test_eval_mode_repeats_what_training_found(config, tmp_path):
    trained = method_run.train(config, str(tmp_path))
    (tmp_path / "results.json").unlink()
    assert main.evaluate(config, str(tmp_path)) == trained
    assert json.loads((tmp_path / "results.json").read_text())["params_sha256"] == trained["params_sha256"]


def test_eval_with_other_settings_than_the_run_is_refused(config, tmp_path):
    workdir.claim_workdir(config, str(tmp_path))
    (tmp_path / "checkpoints" / "3").mkdir(parents=True)
    other = config.copy_and_resolve_references()
    other.seed = 3
    with pytest.raises(ValueError, match="seed: 3 here, 0 there"):
        main.evaluate(other, str(tmp_path))


def test_a_corpus_without_tags_and_groups_and_with_dollar_signs(config, tmp_path):
    """Real corpora have neither, and a price in a caption is not a formula."""
    data = tmp_path / "shards"
    write_corpus(data, {"test": 6, "train": 8, "val": 8})
    for path in data.glob("clips-test*"):
        path.unlink()
    texts = {"tags": [], "groups": [""], "captions": ["from $5 to 10% of $20_"]}
    plain = [dataclasses.replace(make_clip(number, "test", 1), **texts) for number in range(6)]
    path = data / records.shard_name("test", 0, 1)
    index = records.write_shard(str(path), iter(plain), SETTINGS)
    manifest = json.loads((data / records.MANIFEST).read_text())
    manifest["shards"][path.name] = {"bytes": index["bytes"], "crc32c": index["crc32c"]}
    (data / records.MANIFEST).write_text(json.dumps(manifest))
    config = config.copy_and_resolve_references().unlock()
    config.data_dir, config.steps, config.model.branches = str(data), 2, "vision,audio"
    results = method_run.train(resolve(config), str(tmp_path / "run"))
    assert list(results["test"]["groups"]) == ["vision"] and results["test"]["groups_are"].startswith("automatic")
    assert list(results["test"]["gates"]["audio"]) == ["all"]
    assert (tmp_path / "run" / "figures" / "examples.png").exists()


def test_eval_of_an_empty_folder_says_what_to_do(config, tmp_path: Path):
    with pytest.raises(ValueError, match=r"no checkpoint in .*; train first"):
        main.evaluate(config, str(tmp_path))


def test_micro_batches_that_devices_do_not_divide_are_refused_before_anything_is_read(shards, tmp_path):
    """VLSA evaluates that many samples at a time."""
    config = smoke(vlsa_base("vlsa-pretrain"))
    config.data_dir, config.micro_batch = str(shards), 4
    with pytest.raises(ValueError, match=r"micro_batch 4 is not divisible by 8 devices; try 8 \(config\.micro_batch\)"):
        main.evaluate(resolve(config), str(tmp_path))
