"""Checkpoints: the best and the last survive, also damage and another layout; others' parameters are refused."""

import random
import re
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from save_jax import sharding
from save_jax.weights import checkpoint, loading, seals

PARAMS = {"a": {"kernel": jnp.arange(6.0).reshape(2, 3)}, "b": jnp.ones(4)}
OPTIMIZER = {"m": jnp.zeros(4)}


def save(checkpoints: checkpoint.Checkpoints, step: int, sumr: float | None) -> None:
    params = {"a": {"kernel": PARAMS["a"]["kernel"] + step}, "b": PARAMS["b"]}
    optimizer = {"m": OPTIMIZER["m"] + step}
    checkpoints.save(step, params, optimizer, {"step": step}, sumr and {checkpoint.METRIC: sumr})


def kept(workdir: Path) -> set[str]:
    return {path.name for path in (workdir / checkpoint.FOLDER).iterdir()}


def test_the_best_and_the_last_survive_a_restart(tmp_path):
    checkpoints = checkpoint.Checkpoints(str(tmp_path), keep_last=1)
    for step, sumr in ((1, 10.0), (2, 30.0), (3, 20.0), (4, None)):
        save(checkpoints, step, sumr)
    checkpoints.close()
    checkpoints = checkpoint.Checkpoints(str(tmp_path), keep_last=1)
    assert (checkpoints.best(), checkpoints.latest()) == (2, 4)
    save(checkpoints, 5, 25.0)
    checkpoints.close()
    checkpoints = checkpoint.Checkpoints(str(tmp_path), keep_last=1)
    assert (checkpoints.best(), checkpoints.latest()) == (2, 5)
    assert kept(tmp_path) == {"2", "5"}
    params, optimizer, meta = checkpoints.restore(5, PARAMS, OPTIMIZER)
    np.testing.assert_array_equal(params["a"]["kernel"], PARAMS["a"]["kernel"] + 5)
    np.testing.assert_array_equal(optimizer["m"], OPTIMIZER["m"] + 5)
    assert meta == {"step": 5}
    np.testing.assert_array_equal(checkpoints.restore_params(2, PARAMS)["a"]["kernel"], PARAMS["a"]["kernel"] + 2)
    checkpoints.close()
    # From outside, a workdir stands for its best checkpoint.
    loaded = loading.load_params(str(tmp_path), PARAMS)
    np.testing.assert_array_equal(loaded["a"]["kernel"], PARAMS["a"]["kernel"] + 2)


def test_the_last_ones_and_the_best_are_kept_and_of_equals_the_later(tmp_path):
    checkpoints = checkpoint.Checkpoints(str(tmp_path), keep_last=2)
    for step, sumr in ((1, 30.0), (2, 30.0), (3, 20.0), (4, None), (5, 10.0)):
        save(checkpoints, step, sumr)
    checkpoints.close()
    assert kept(tmp_path) == {"2", "4", "5"}


def test_saving_goes_on_in_the_background_with_a_copy(tmp_path):
    """What is saved may be donated or deleted as soon as `save` returns, long before it is on the disk."""
    rows = np.random.default_rng(0).normal(size=(8, 1 << 20)).astype(np.float32)  # 32 MB, which do not compress
    placed = jax.device_put(rows, sharding.by_sample(sharding.make_mesh()))
    params = {"w": jax.jit(jnp.copy)(placed)}  # on a CPU `placed` may be the very memory of `rows`
    like = checkpoint.abstract(params)
    checkpoints = checkpoint.Checkpoints(str(tmp_path))
    checkpoints.save(1, params, OPTIMIZER, {})
    unfinished = "1" not in kept(tmp_path)
    jax.block_until_ready(jax.jit(lambda w: w + 1, donate_argnums=0)(params["w"]))  # as a training step does
    params["w"].delete()
    checkpoints.close()
    assert unfinished and "1" in kept(tmp_path)
    checkpoints = checkpoint.Checkpoints(str(tmp_path), read_only=True)
    found = checkpoints.restore_params(1, like)["w"]
    checkpoints.close()
    np.testing.assert_array_equal(found, rows)


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """Steps 1 to 4: 2 is the best, 1 the next best, 4 was not validated. Arrays large enough for files of their own."""
    workdir = tmp_path_factory.mktemp("saved")
    checkpoints = checkpoint.Checkpoints(str(workdir), keep_last=4)
    for step, sumr in ((1, 20.0), (2, 30.0), (3, 10.0), (4, None)):
        checkpoints.save(step, big(step), big(step + 10), {"step": step}, sumr and {checkpoint.METRIC: sumr})
    checkpoints.close()
    return workdir


def big(seed: int) -> dict:
    return {"w": jnp.asarray(np.random.default_rng(seed).normal(size=(64, 1000)).astype(np.float32))}


@pytest.fixture
def workdir(saved, tmp_path) -> Path:
    shutil.copytree(saved, tmp_path / "run")
    return tmp_path / "run"


def largest(folder: Path) -> Path:
    """The file that holds the arrays."""
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    bit = random.Random(0).randrange(len(data) * 8)
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGE = {
    "a bit of the parameters": lambda step: flip(largest(step / "params")),
    "a bit of the optimiser state": lambda step: flip(largest(step / "optimizer")),
    "parameters cut off": lambda step: cut(largest(step / "params")),
    "a file of parameters gone": lambda step: largest(step / "params").unlink(),
    "Orbax's list of arrays gone": lambda step: (step / "params" / "_METADATA").unlink(),
    "optimiser gone": lambda step: shutil.rmtree(step / "optimizer"),
    "meta gone": lambda step: shutil.rmtree(step / "meta"),
    "meta cut off": lambda step: cut(step / "meta" / "metadata"),
    "checksums gone": lambda step: (step / seals.NAME).unlink(),
    "checksums cut off": lambda step: cut(step / seals.NAME),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_last_checkpoint_gives_way_to_the_one_before(kind, workdir, capsys):
    """And its step can be saved again."""
    DAMAGE[kind](workdir / checkpoint.FOLDER / "4")
    checkpoints = checkpoint.Checkpoints(str(workdir))
    assert checkpoints.latest() == 4
    step, params, optimizer, meta = checkpoints.restore_last(big(0), big(0))
    assert (step, meta) == (3, {"step": 3})
    np.testing.assert_array_equal(params["w"], big(3)["w"])
    np.testing.assert_array_equal(optimizer["w"], big(13)["w"])
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 1
    for part in ("checkpoint 4 is damaged (", "the one of step 3: 1 step is lost", "moved to 4.damaged"):
        assert part in said[0]
    checkpoints.save(4, big(4), big(14), {"step": 4}, {checkpoint.METRIC: 40.0})
    assert checkpoints.best() == 4
    checkpoints.close()
    assert kept(workdir) == {"3", "4", "4.damaged"}
    checkpoints = checkpoint.Checkpoints(str(workdir))
    assert checkpoints.restore_last(big(0), big(0))[0] == 4
    checkpoints.close()
    assert not capsys.readouterr().out


def test_two_damaged_in_a_row_and_an_earlier_one_moved_aside(workdir, capsys):
    folder = workdir / checkpoint.FOLDER
    flip(largest(folder / "4" / "params"))
    cut(folder / "3" / "meta" / "metadata")
    (folder / "4.damaged" / "params").mkdir(parents=True)
    for step in (5, 7):  # killed processes were writing them
        (folder / f"{step}.orbax-checkpoint-tmp" / "params").mkdir(parents=True)
    checkpoints = checkpoint.Checkpoints(str(workdir))
    assert checkpoints.restore_last(big(0), big(0))[0] == 2
    said = capsys.readouterr().out
    assert "checkpoint 3 is damaged (meta/metadata has other bytes than were written)" in said
    assert "used instead is the one of step 2: 2 steps are lost" in said
    save_again = big(5)
    checkpoints.save(5, save_again, save_again, {"step": 5})
    checkpoints.close()
    assert kept(workdir) == {"2", "5", "3.damaged", "4.damaged"}


def test_what_is_half_written_is_gone_before_orbax_looks(workdir, monkeypatch):
    """Its own thread would delete behind what is written next. Who only reads deletes nothing: another may write it."""
    half, manager, seen = workdir / checkpoint.FOLDER / "7.orbax-checkpoint-tmp", ocp.CheckpointManager, []

    def opened(*args, **options):
        seen.append(half.exists())
        return manager(*args, **options)

    (half / "params").mkdir(parents=True)
    monkeypatch.setattr(ocp, "CheckpointManager", opened)
    for read_only in (True, False):
        checkpoint.Checkpoints(str(workdir), read_only=read_only).close()
        assert half.exists() == read_only
    assert seen == [True, False]


def test_half_a_checkpoint_that_cannot_be_deleted_is_named(workdir):
    (workdir / checkpoint.FOLDER / "7.orbax-checkpoint-tmp").touch()  # a file: no folder of Orbax's
    with pytest.raises(ValueError, match=r"7\.orbax-checkpoint-tmp, half a checkpoint, cannot be deleted"):
        checkpoint.Checkpoints(str(workdir))


@pytest.mark.parametrize(
    ("damaged", "used", "why"),
    [
        ({"2": "params"}, 1, r"next best on validation, of step 1 \(SumR 20\.0\)"),
        ({"2": "metrics"}, 1, r"next best on validation, of step 1"),
        ({"2": "params", "1": "params", "3": "metrics"}, 4, r"last whole one, of step 4; it was not validated"),
        ({"2": "optimizer"}, 2, ""),  # nobody reads it to evaluate
    ],
)
def test_a_damaged_best_checkpoint_gives_way_to_the_next_best(damaged, used, why, workdir, capsys):
    for step, item in damaged.items():
        folder = workdir / checkpoint.FOLDER / step / item
        cut(folder / "metrics") if item == "metrics" else flip(largest(folder))
    before = kept(workdir)
    checkpoints = checkpoint.Checkpoints(str(workdir), read_only=True)
    step = checkpoints.best()
    np.testing.assert_array_equal(checkpoints.restore_params(step, big(0))["w"], big(used)["w"])
    checkpoints.close()
    assert step == used and kept(workdir) == before
    said = capsys.readouterr().out
    assert said.count("is damaged") == (len(damaged) if why else 0)
    assert re.search(why, said)
    # From outside, too.
    np.testing.assert_array_equal(loading.load_params(str(workdir), big(0))["w"], big(used)["w"])


def test_where_nothing_is_whole_nothing_is_moved(workdir):
    for step in "1234":
        flip(largest(workdir / checkpoint.FOLDER / step / "params"))
    checkpoints = checkpoint.Checkpoints(str(workdir))
    with pytest.raises(ValueError, match=r"no checkpoint in .* is complete \(4: params/.*bring one back from a copy"):
        checkpoints.restore_last(big(0), big(0))
    checkpoints.close()
    assert kept(workdir) == set("1234")


def test_a_damaged_folder_named_outright_is_refused(workdir):
    flip(largest(workdir / checkpoint.FOLDER / "3" / "params"))
    with pytest.raises(ValueError, match=r"checkpoint .*3 is damaged \(params/.* has other bytes"):
        loading.load_params(str(workdir / checkpoint.FOLDER / "3" / "params"), big(0))


def test_checkpoints_of_older_versions_are_taken_as_they_are(workdir, capsys):
    """They have no checksums; the first process that goes on with the run makes them."""
    for step in "1234":
        (workdir / checkpoint.FOLDER / step / seals.NAME).unlink()
    checkpoints = checkpoint.Checkpoints(str(workdir), read_only=True)
    assert checkpoints.best() == 2
    checkpoints.close()
    assert not (workdir / checkpoint.FOLDER / "4" / seals.NAME).exists()
    checkpoints = checkpoint.Checkpoints(str(workdir))
    assert checkpoints.restore_last(big(0), big(0))[0] == 4
    checkpoints.close()
    assert not capsys.readouterr().out
    flip(largest(workdir / checkpoint.FOLDER / "4" / "params"))
    assert seals.problem(workdir / checkpoint.FOLDER / "4", ("params",))


def laid_out(devices: int, split: bool) -> dict:
    """16 x 24 on some of the devices: whole on each, or its columns split."""
    mesh = sharding.make_mesh(jax.devices()[:devices])
    layout = NamedSharding(mesh, PartitionSpec(None, sharding.DATA) if split else PartitionSpec())
    return {"w": jax.device_put(np.arange(384, dtype=np.float32).reshape(16, 24), layout)}


def test_a_checkpoint_is_restored_on_other_devices_and_other_layouts(tmp_path):
    layouts = [(8, True), (4, True), (4, False), (1, False), (8, False), (2, True), (8, True)]
    tree = laid_out(*layouts[0])
    for number, (devices, split) in enumerate(layouts[1:]):
        workdir = str(tmp_path / str(number))
        checkpoints = checkpoint.Checkpoints(workdir)
        checkpoints.save(1, tree, tree, {})
        like = jax.tree.map(jnp.zeros_like, laid_out(devices, split))
        tree, optimizer, _ = checkpoints.restore(1, like, like)
        checkpoints.close()
        for found in (tree["w"], optimizer["w"]):
            assert found.sharding == like["w"].sharding
            np.testing.assert_array_equal(found, np.arange(384).reshape(16, 24))


def test_parameters_of_another_model_are_refused_with_a_list(tmp_path):
    loading.save_params(str(tmp_path / "params"), PARAMS)
    like = {"a": {"kernel": jnp.zeros((2, 4))}, "c": jnp.zeros(1)}
    with pytest.raises(
        ValueError, match=r"(?s)a/kernel: \[2, 3\] there, \[2, 4\] in.*b: \[4\] there, absent.*c: absent"
    ):
        loading.load_params(str(tmp_path / "params"), like)


def test_a_folder_of_another_tool_is_said_to_be_one(tmp_path):
    for name, files, match in (
        (
            "hf",
            ["config.json", "model.safetensors"],
            r"holds a weight file of other code \(model\.safetensors\); convert",
        ),
        ("empty", [], "the folder is empty"),
        ("run", ["config.json", "metrics.jsonl"], "the workdir of a run that saved none"),
        ("pictures", ["a.png"], r"it holds a\.png; give a run's workdir"),
    ):
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).write_text("{}")
        for load in (
            lambda: loading.load_modules(str(tmp_path / name), like={"vision": {}}),  # noqa: B023
            lambda: loading.read_params(str(tmp_path / name)),  # noqa: B023
            lambda: loading.load_params(str(tmp_path / name), PARAMS),  # noqa: B023
        ):
            with pytest.raises(ValueError, match=rf"{name} is no checkpoint: .*{match}"):
                load()


def test_nothing_is_overwritten_and_nothing_missing_is_loaded(tmp_path):
    loading.save_params(str(tmp_path / "params"), PARAMS)
    with pytest.raises(ValueError, match="exists already"):
        loading.save_params(str(tmp_path / "params"), PARAMS)
    with pytest.raises(ValueError, match="no checkpoint at"):
        loading.load_params(str(tmp_path / "nothing"), PARAMS)
