"""The table of a sweep by hand, and a sweep that keeps what is finished."""

import copy
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from absl import flags
from helpers.corpus import IMAGE_SIZE
from helpers.places import REPOSITORY

from save_jax.config import base, resolve, smoke
from save_jax.judge import reading
from save_jax.judge.reading import Task
from save_jax.report import plots
from save_jax.sweep import command, grids, runs, significance, tables


def results(sumr: float, by_group: dict[str, float]) -> dict:
    def direction(value: float) -> dict:
        return {"t2v": {"R@1": 1.0, "R@5": 2.0, "R@10": 3.0, "MedR": 4.0, "MeanR": 5.0, "SumR": value}}

    return {"test": direction(sumr) | {"groups": {name: direction(value) for name, value in by_group.items()}}}


def test_medians_spreads_and_gains_by_hand(tmp_path):
    found = {
        "vision": [results(s, {"sound": 10.0, "vision": 90.0}) for s in (100.0, 104.0, 101.0)],
        "avigate": [results(s, {"sound": 50.0, "vision": 95.0}) for s in (120.0, 121.0, 127.0)],
    }
    table = tables.summarize(found)
    assert table["vision"]["all"]["SumR"] == {
        "median": 101.0,
        "min": 100.0,
        "max": 104.0,
        "seeds": [100.0, 104.0, 101.0],
    }
    text = tables.markdown(table, [0, 1, 2], [("vision", "avigate")])
    assert (
        "| avigate | 1.0 (1.0–1.0) | 2.0 (2.0–2.0) | 3.0 (3.0–3.0) | 121.0 (120.0–127.0) | 50.0 (50.0–50.0) |" in text
    )
    assert (
        "avigate over vision: +20.0 SumR, spread between seeds 7.0; by group sound +40.0, vision +5.0; "
        "largest for sound." in text
    )
    plots.save(plots.sweep(table), str(tmp_path / "sweep.png"))
    assert (tmp_path / "sweep.png").stat().st_size > 5_000


@pytest.mark.parametrize(
    ("sound", "vision", "end"),
    [
        (-6.0, -2.0, "vision -2.0; largest loss for sound."),
        (1.0, 0.0, "vision +0.0."),
        (-1.0, 3.0, "vision +3.0; largest loss for sound."),
        (1.0, 3.0, "vision +3.0."),
    ],
)
def test_a_loss_names_the_group_that_loses_most(sound, vision, end):
    found = {
        "save": [results(100.0, {"sound": 50.0, "vision": 50.0})],
        "none": [results(90.0, {"sound": 50.0 + sound, "vision": 50.0 + vision})],
    }
    assert tables.markdown(tables.summarize(found), [0], [("save", "none")]).endswith(end + "\n")


def test_variants_are_compared_with_what_they_vary():
    assert grids.pairs("methods") == [("vision", "avigate"), ("avigate", "save")]
    assert grids.pairs("score") == [("save", "save-global"), ("avigate", "avigate-global")]
    assert grids.pairs("albef") == [("save", f"albef-{kind}") for kind in ("none", "hard", "mse", "huber")]
    for grid, variants in grids.GRIDS.items():
        assert {name for pair in grids.pairs(grid) for name in pair} == variants.keys()


def test_time_left_goes_by_the_variant_where_it_was_timed():
    assert runs.time_left({"vision": [], "save": []}, ["vision", "save"]) == ""
    seconds = {"vision": [100.0, 200.0], "save": [3600.0], "avigate": []}
    assert runs.time_left(seconds, ["vision", "save"]) == ", about 1:02:30 left"
    assert runs.time_left(seconds, ["avigate"]) == ", about 0:21:40 left"  # 1,300 s, the mean of the three


def test_gates_are_medians_over_seeds():
    made = [
        {"test": {"gates": {"audio": {"music": {"attention": a, "mlp": 0.5, "clips": 7}}}}} for a in (0.1, 0.9, 0.2)
    ]
    assert tables.gates_markdown(made).splitlines()[2] == "| music | 7 | 0.20 | 0.50 |"


def test_differences_are_held_against_videos_and_seeds(tmp_path):
    """Made scores: save is far better, avigate is no better than vision; and a run without scores is named."""
    rng, task, names = np.random.default_rng(0), Task(np.arange(80), [], ["a", "b"] * 40), [f"v{i}" for i in range(80)]
    for name, strength in (("vision", 1.0), ("avigate", 1.0), ("save", 3.0)):
        for seed in (0, 1, 2):
            folder = tmp_path / f"{name}-seed{seed}"
            folder.mkdir()
            reading.save(str(folder / "scores.npz"), strength * np.eye(80) + rng.normal(size=(80, 80)), names, task)
    found = significance.compare(str(tmp_path), [0, 1, 2], grids.pairs("methods"))
    assert found["avigate", "save"]["all"].established and found["avigate", "save"]["b"].established
    assert not found["vision", "avigate"]["all"].established
    lines = significance.markdown(found, [0, 1, 2]).splitlines()
    assert lines[2] == "| | all | a | b |" and lines[4].startswith("| avigate over vision | ")
    assert "**" not in lines[4] and lines[5].count("**") == 6
    (tmp_path / "save-seed1" / "scores.npz").unlink()
    with pytest.raises(ValueError, match=r"1 runs have no scores.npz, such as .*save-seed1"):
        significance.compare(str(tmp_path), [0, 1, 2], grids.pairs("methods"))


@pytest.mark.parametrize("grid", grids.GRIDS)
def test_every_variant_is_a_valid_configuration_of_its_own(grid):
    """In the paper's own setting, and no two variants of a grid are the same experiment."""
    settings = []
    for changes in grids.GRIDS[grid].values():
        config = base()
        config.update_from_flattened_dict(changes)
        settings.append(resolve(config).to_json())
    assert len(set(settings)) == len(settings)


@pytest.fixture(scope="module")
def swept(shards, tmp_path_factory):
    """(config, workdir) of a sweep of vision alone over seed 0, two steps."""
    config = base()
    config.data_dir, config.data.tokenizer = str(shards), "data"
    config.model.image_size, config.model.vocab_size = IMAGE_SIZE, 600
    config, workdir = smoke(config), tmp_path_factory.mktemp("sweep")
    config.steps = 2
    runs.run_all(config, str(workdir), [0], {"vision": grids.VISION})
    return config, workdir


@pytest.fixture
def again(swept, monkeypatch):
    """Sweeps a copy of the finished sweep once more, after `change(config, folder of the run)`; nothing is trained.

    Returns (variant → results, what would have been trained).
    """
    config, workdir = swept
    begun = []
    monkeypatch.setattr(runs.method_run, "train", lambda config, folder: begun.append((config.seed, folder)) or {})

    def run(tmp_path, change=lambda config, folder: None, seeds=(0,)):
        copied = config.copy_and_resolve_references()
        shutil.copytree(workdir, tmp_path / "sweep")
        change(copied, tmp_path / "sweep" / "vision-seed0")
        return runs.run_all(copied, str(tmp_path / "sweep"), seeds, {"vision": grids.VISION}), begun

    return run


def results_of(folder) -> dict:
    return json.loads((folder / "results.json").read_text())


def edit_results(folder, *names: str, value: object) -> None:
    stored = results_of(folder)
    inner = stored
    for name in names[:-1]:
        inner = inner[name]
    inner[names[-1]] = value
    (folder / "results.json").write_text(json.dumps(stored))


def without_checkpoints(config, folder):
    shutil.rmtree(folder / "checkpoints")


def test_a_finished_run_is_kept_also_without_its_checkpoints(again, tmp_path):
    found, begun = again(tmp_path, without_checkpoints)
    assert begun == [] and found == {"vision": [results_of(tmp_path / "sweep" / "vision-seed0")]}
    assert found["vision"][0]["config"]["model"]["branches"] == "vision"


def test_only_what_is_not_finished_is_trained_and_it_says_how_far(again, tmp_path, capsys):
    _, begun = again(tmp_path, seeds=(0, 1, 2))
    assert begun == [(seed, str(tmp_path / "sweep" / f"vision-seed{seed}")) for seed in (1, 2)]
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("run ")]
    assert lines[0].endswith("vision-seed1") and lines[0].startswith("run 2 of 3: ")
    assert lines[1].startswith("run 3 of 3: ") and lines[1].endswith("vision-seed2, about 0:00:00 left")


@pytest.mark.parametrize("checkpoints", [True, False])
def test_results_of_another_config_are_refused_with_or_without_checkpoints(again, tmp_path, checkpoints):
    def change(config, folder):
        config.batch_size = 16
        if not checkpoints:
            without_checkpoints(config, folder)

    with pytest.raises(
        ValueError, match=r"vision-seed0/results.json is of another ex(?s:.*)batch_size: 16 here, 8 there"
    ):
        again(tmp_path, change, seeds=(1, 0))


def test_results_of_shards_that_were_rebuilt_are_refused(again, tmp_path):
    def change(config, folder):
        copy = tmp_path / "rebuilt"
        shutil.copytree(config.data_dir, copy)
        manifest = json.loads((copy / "manifest.json").read_text())
        manifest["shards"]["clips-val.tfrecord-00001-of-00002"]["crc32c"] = "other"
        (copy / "manifest.json").write_text(json.dumps(manifest))
        config.data_dir = str(copy)

    with pytest.raises(
        ValueError, match=r"clips-val.tfrecord-00001-of-00002: {.*'other'} here, {.*'crc32c': .*} there"
    ):
        again(tmp_path, change)


def test_shards_without_a_manifest_are_refused(again, tmp_path):
    def change(config, folder):
        config.data_dir = str(tmp_path)

    with pytest.raises(ValueError, match=r"there is no .*manifest.json to compare with; set config.data_dir"):
        again(tmp_path, change)


def test_a_run_that_was_evaluated_before_its_end_goes_on(again, tmp_path):
    _, begun = again(tmp_path, lambda config, folder: edit_results(folder, "checkpoints", "last", "step", value=1))
    assert [seed for seed, _ in begun] == [0]


def test_the_end_of_epochs_counts_whole_batches(again, tmp_path):
    """24 clips of two captions in batches of 8: two epochs are 12 steps, whatever else the config says."""

    def change(config, folder):
        config.steps, config.epochs = 0, 2
        edit_results(folder, "config", "steps", value=0)
        edit_results(folder, "config", "epochs", value=2)
        edit_results(folder, "checkpoints", "last", "step", value=12)

    assert again(tmp_path, change)[1] == []


def test_results_older_than_a_setting_are_of_its_default(again, tmp_path):
    def change(config, folder):
        stored = results_of(folder)["config"]
        del stored["micro_batch"], stored["data"]["resident"]
        edit_results(folder, "config", value=stored)

    assert again(tmp_path, change)[1] == []


def test_a_misspelt_command_is_refused(tmp_path):
    command = [sys.executable, "-m", "save_jax.sweep", "--config=configs/demo.py", f"--workdir={tmp_path}", "seeds=1,2"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 1 and "unknown arguments: seeds=1,2" in done.stdout + done.stderr


@pytest.mark.parametrize(("seeds", "fine"), [("0", True), ("2,10", True), ("", False), ("0,00", False), ("a", False)])
def test_seeds_are_different_whole_numbers(seeds, fine):
    flag_values = flags.FlagValues()
    flag_values["seeds"] = copy.deepcopy(command.flags.FLAGS["seeds"])
    if fine:
        assert flag_values(["sweep", f"--seeds={seeds}"]) == ["sweep"]
        return
    with pytest.raises(flags.IllegalFlagValueError, match="different whole numbers are needed, such as 0,1,2"):
        flag_values(["sweep", f"--seeds={seeds}"])
