"""A run is opened from its folder alone: the checkpoint and data it had, and clear words where something is missing."""

import dataclasses
import json
import os
import shutil

import numpy as np
import pytest
import simplejpeg
from helpers.corpus import SETTINGS, make_clip, write_corpus
from helpers.made_run import replace_test_split

from save_jax import main
from save_jax.config import resolve
from save_jax.data import files, records
from save_jax.evaluation import scoring
from save_jax.inference import run_page, runs
from save_jax.methods import run as method_run
from save_jax.weights.checkpoint import FOLDER


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return tmp_path_factory.mktemp("runs") / "run"


@pytest.fixture
def trained(config, workdir):
    """A run of six steps, trained once; (its folder, its results)."""
    if not workdir.exists():
        method_run.train(config, str(workdir))
    return str(workdir), json.loads((workdir / "results.json").read_text())


def test_an_opened_run_repeats_its_results(trained):
    workdir, results = trained
    run = runs.open_run(workdir)
    assert run.step == results["picked_step"]
    found = run.evaluator.run(run.params, run.config.data.test_split).results
    assert found["t2v"] == results["test"]["t2v"]
    assert json.loads(json.dumps(run.config.to_dict())) == results["config"]


def test_last_is_the_last_step(trained, config):
    workdir, results = trained
    run = runs.open_run(workdir, which="last")
    assert run.step == results["checkpoints"]["last"]["step"] == config.steps


def test_the_config_read_is_the_one_that_evaluates(trained):
    workdir, results = trained
    again = main.evaluate(runs.read_config(workdir), workdir)
    assert again["test"]["t2v"] == results["test"]["t2v"]


def test_shards_that_moved_and_another_split(trained, shards, tmp_path):
    workdir, _ = trained
    moved = tmp_path / "moved"
    moved.symlink_to(shards)
    run = runs.open_run(workdir, data_dir=str(moved), split="val")
    assert run.config.data_dir == str(moved)
    assert set(run.data.sources) == {"val"}


@pytest.mark.parametrize("tile", [3, 1 << 20])  # the best of each tile are put together; all in one
def test_a_sentence_finds_what_the_matrix_says(trained, monkeypatch, tile):
    workdir, _ = trained
    run = runs.open_run(workdir)
    monkeypatch.setattr(scoring, "tile_of", lambda *_: tile)
    evaluation = run.evaluator.run(run.params, "test")
    number = 5
    for best in (2, 4, 99):
        found = run.search(evaluation.info.captions[number], top=best)
        order = np.argsort(-evaluation.scores["t2v"][number], kind="stable")[:best]
        assert [one.id for one in found] == [evaluation.info.ids[i] for i in order]
        np.testing.assert_allclose([one.score for one in found], evaluation.scores["t2v"][number][order], rtol=1e-5)
    assert run.search("a red car", top=0) == []


def test_a_search_never_finds_a_video_without_frames_and_of_equals_the_earlier(trained, tmp_path):
    workdir, _ = trained
    gallery = write_corpus(tmp_path / "gallery", {"test": 6})
    one, other = make_clip(1, "test"), make_clip(2, "test")
    clips = [one, other, *(dataclasses.replace(one, id=name) for name in ("twin", "failed", "triplet"))]
    clips[3] = dataclasses.replace(clips[3], frames=[], frame_times=np.zeros(0, np.float32))
    replace_test_split(gallery, clips)
    run = runs.open_run(workdir, data_dir=str(gallery))
    found = run.search("a red car", top=9)
    assert len(found) == 4 and "failed" not in {video.id for video in found}
    alike = [video for video in found if video.id != "test2"]
    assert [video.id for video in alike] == ["test1", "twin", "triplet"]
    assert len({video.score for video in alike}) == 1


def test_a_run_with_a_damaged_checkpoint_opens_with_another(trained, tmp_path, capsys):
    workdir, results = trained
    copy = tmp_path / "copy"
    shutil.copytree(workdir, copy)
    steps = sorted((int(path.name) for path in (copy / FOLDER).iterdir()), reverse=True)
    arrays = max((copy / FOLDER / str(steps[0]) / "params").rglob("*"), key=lambda path: path.stat().st_size)
    data = bytearray(arrays.read_bytes())
    data[len(data) // 2] ^= 4
    arrays.write_bytes(data)
    assert runs.open_run(str(copy), which="last").step == steps[1]
    assert f"checkpoint {steps[0]} is damaged (params/" in capsys.readouterr().out
    best = results["picked_step"]
    assert runs.open_run(str(copy)).step == (best if best != steps[0] else steps[1])
    assert ("is damaged" in capsys.readouterr().out) == (best == steps[0])
    assert sorted((int(path.name) for path in (copy / FOLDER).iterdir()), reverse=True) == steps  # nothing is moved


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"data_dir": "nowhere"}, "reads shards in nowhere, which is not there; pass data_dir"),
        ({"which": "first"}, "which is 'first'; choose best or last"),
        ({"split": "dev"}, "no shards of split 'dev'"),
    ],
)
def test_what_cannot_work_is_said(trained, arguments, message):
    with pytest.raises(ValueError, match=message):
        runs.open_run(trained[0], **arguments)


def test_folders_that_are_no_run(trained, tmp_path):
    with pytest.raises(ValueError, match=r"is not the folder of a run: it has no config\.json"):
        runs.open_run(str(tmp_path))
    stored = files.read_json(trained[0] + "/config.json")
    (tmp_path / "config.json").write_text(json.dumps(stored | {"speed": 3}))
    with pytest.raises(ValueError, match="settings unknown here: speed; use the version"):
        runs.open_run(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps(stored))
    with pytest.raises(ValueError, match="no checkpoint in"):
        runs.open_run(str(tmp_path))
    assert not (tmp_path / FOLDER).exists()  # looking makes nothing


def test_results_on_other_data_replace_nothing(trained, tmp_path):
    """Folders with a test split alone: evaluated beside the run's own results, also where these are not there yet."""
    workdir, results = trained
    os.rename(os.path.join(workdir, "results.json"), tmp_path / "results.json")
    other = write_corpus(tmp_path / "other", {"test": 6})
    found = main.evaluate(runs.read_config(workdir, data_dir=str(other)), workdir)
    assert found["test"]["t2v"]["queries"] == 6 and "querybank" not in found["test"]["post_processed"]
    assert not os.path.exists(os.path.join(workdir, "results.json"))
    os.rename(tmp_path / "results.json", os.path.join(workdir, "results.json"))
    third = write_corpus(tmp_path / "third", {"test": 7})  # of the same corpus
    main.evaluate(runs.read_config(workdir, data_dir=str(third)), workdir)
    assert files.read_json(os.path.join(workdir, "results.json")) == results
    names = sorted(name for name in os.listdir(workdir) if name.startswith("results-made-test-"))
    queries = [files.read_json(os.path.join(workdir, name))["test"]["t2v"]["queries"] for name in names]
    assert sorted(queries) == [6, 7]
    for name in names:
        figures = name.removesuffix(".json").replace("results", "figures")
        assert os.path.exists(os.path.join(workdir, figures, "examples.png"))


def test_a_gallery_without_captions_is_searched_not_evaluated(trained, tmp_path):
    workdir, _ = trained
    gallery = write_corpus(tmp_path / "gallery", {"test": 6})
    silent = [dataclasses.replace(make_clip(number, "test"), captions=[], groups=[]) for number in range(5)]
    replace_test_split(gallery, silent)
    run = runs.open_run(workdir, data_dir=str(gallery))
    assert len(run.search("a red car", top=9)) == 5
    with pytest.raises(ValueError, match="has no captions, so there is nothing to evaluate"):
        run.evaluator.run(run.params, "test")


def test_raw_frames_train_evaluate_and_draw_as_their_jpegs_do(trained, config, shards, tmp_path):
    raw = tmp_path / "raw"
    shutil.copytree(shards, raw)
    manifest = json.loads((raw / records.MANIFEST).read_text())
    for name in manifest["shards"]:
        source = records.ShardSource([str(shards / name)])
        clips = [source[number] for number in range(len(source))]
        for clip in clips:
            clip.frames = [simplejpeg.decode_jpeg(frame, "RGB").tobytes() for frame in clip.frames]
        index = records.write_shard(str(raw / name), iter(clips), SETTINGS | {"frames": "raw"})
        manifest["shards"][name] = {"bytes": index["bytes"], "crc32c": index["crc32c"]}
    (raw / records.MANIFEST).write_text(json.dumps(manifest))
    config = config.copy_and_resolve_references().unlock()
    config.data_dir = str(raw)
    results = method_run.train(resolve(config), str(tmp_path / "run"))
    assert results["params_sha256"] == trained[1]["params_sha256"]
    assert results["test"]["t2v"] == trained[1]["test"]["t2v"]
    assert run_page.write_page(str(tmp_path / "run"), queries=2).stat().st_size > 10_000


def test_validation_on_test_is_refused(config, tmp_path):
    config = config.copy_and_resolve_references().unlock()
    config.data.val_split = "test"
    with pytest.raises(ValueError, match="checkpoints are never picked on test"):
        method_run.train(resolve(config), str(tmp_path))


def test_another_split_is_no_bank_for_itself_and_has_no_peak_of_the_other(trained):
    workdir, _ = trained
    config = runs.read_config(workdir, split="val").unlock()
    config.evaluation.peak_on_test = True
    found = main.evaluate(resolve(config), workdir)
    assert "querybank" not in found["test"]["post_processed"] and "peak on test" not in found["checkpoints"]
    assert os.path.exists(os.path.join(workdir, "results-val.json"))
    assert os.path.exists(os.path.join(workdir, "figures-val", "examples.png"))
