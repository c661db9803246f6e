"""Training end to end on a made corpus: one device equals eight, stopped runs end as straight ones, bad starts."""

import dataclasses
import functools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import chex
import jax
import numpy as np
import optax
import pytest
from helpers.corpus import write_corpus
from helpers.killing import ENVIRONMENT
from helpers.places import REPOSITORY

from save_jax import sharding
from save_jax.config import model_sizes, resolve
from save_jax.data import pipeline
from save_jax.data.records import ShardError
from save_jax.methods import run as method_run
from save_jax.models import trees
from save_jax.models.retrieval import Retrieval
from save_jax.training import monitor, objectives, optim, state, step, workdir
from save_jax.weights import loading


def first_steps(config, devices: int, steps: int = 3) -> tuple[list[dict], dict]:
    """Metrics of the first steps, and the parameters after them."""
    mesh = sharding.make_mesh(jax.devices()[:devices])
    data = pipeline.Data(config, ("train",))
    model = Retrieval(model_sizes(config))
    optimizer = optim.make_optimizer(config.optim, 10)
    train_state = state.create(model, optimizer, config, mesh, {})
    train_step = step.make_train_step(objectives.RetrievalObjective(model, config), optimizer, config, mesh)
    batches = pipeline.train_iterator(data, config)
    metrics = []
    for _ in range(steps):
        batch = next(batches)
        batch.pop("clip")
        train_state, parts = train_step(train_state, sharding.to_devices(batch, mesh))
        metrics.append(jax.device_get(parts))
    batches.close()
    return metrics, jax.device_get(sharding.whole(train_state.params, mesh))


def assert_equal_steps(one: tuple[list[dict], dict], other: tuple[list[dict], dict]) -> None:
    """Metrics of the steps to 1e-5, the norm of the gradient to 1e-3."""
    # The third step starts from updated parameters; the norm of its large gradient shows rounding first.
    norms = [[parts["grad_norm"] for parts in steps] for steps, _ in (one, other)]
    chex.assert_trees_all_close(*norms, rtol=1e-3, atol=1e-6)
    rest = [[parts | {"grad_norm": 0.0} for parts in steps] for steps, _ in (one, other)]
    chex.assert_trees_all_close(*rest, rtol=1e-5, atol=1e-6)


def test_one_device_equals_eight(config):
    assert_equal_steps(first_steps(config, 1), first_steps(config, 8))


def changed(config, **settings):
    config = config.copy_and_resolve_references().unlock()
    config.update_from_flattened_dict(settings)
    return resolve(config)


def test_split_parameters_equal_whole_ones(config, monkeypatch):
    """FSDP over eight devices; every array that they divide is split, so that small models show it, too."""
    whole = first_steps(config, 8)
    monkeypatch.setattr(sharding, "SMALLEST_SPLIT", 1)
    split = changed(config, sharding="fsdp")
    assert_equal_steps(whole, first_steps(split, 8))
    mesh = sharding.make_mesh()
    optimizer = optim.make_optimizer(split.optim, 10)
    train_state = state.create(Retrieval(model_sizes(split)), optimizer, split, mesh, {})
    numbers = [x.size for x in jax.tree.leaves(train_state)]
    here = [x.addressable_shards[0].data.size for x in jax.tree.leaves(train_state)]
    assert sum(here) < 0.2 * sum(numbers)  # an eighth, and what eight does not divide


@pytest.mark.parametrize(("devices", "micro_batch"), [(1, 2), (4, 4)])
def test_micro_batches_give_the_gradients_of_the_whole_batch(config, devices, micro_batch):
    """Losses to 1e-5, gradients to 2e-5 of their norm (1.2e-5 seen; no part of it lies along the gradient).

    Random weights make all tokens of a sound nearly the same, and the resampler's layer norm blows up what rounding
    makes of their differences: to 3e-5. So positions are made larger here.
    """
    model = Retrieval(model_sizes(config))
    batch = next(pipeline.train_iterator(pipeline.Data(config, ("train",)), config))
    del batch["clip"]
    params = trees.flatten(jax.jit(lambda key: state.init_params(model, config, key))(jax.random.key(1)))
    params["ast/position_embedding"] *= 50
    objective = objectives.RetrievalObjective(model, config)
    computed = []
    mesh = sharding.make_mesh(jax.devices()[:devices])
    for size in (0, micro_batch):
        settings = changed(config, micro_batch=size)
        compute = jax.jit(functools.partial(step.gradients, objective, config=settings, mesh=mesh))
        computed.append(jax.device_get(compute(params, {}, sharding.to_devices(batch, mesh))))
    (parts, grads), (parts_cached, grads_cached) = computed
    chex.assert_trees_all_close(parts, parts_cached, rtol=1e-5)
    difference = jax.tree.map(np.subtract, grads_cached, grads)
    assert optax.tree.norm(difference) < 2e-5 * optax.tree.norm(grads)


def test_micro_batches_keep_less_in_memory(config):
    """Temporary memory of the compiled gradients: an eighth of the batch at a time needs less than 30 % of it."""
    config = changed(config, batch_size=32)
    model, mesh = Retrieval(model_sizes(config)), sharding.make_mesh(jax.devices()[:1])
    batch = next(pipeline.train_iterator(pipeline.Data(config, ("train",)), config))
    params = trees.flatten(jax.jit(lambda key: state.init_params(model, config, key))(jax.random.key(1)))
    objective = objectives.RetrievalObjective(model, config)
    needs = [
        jax.jit(functools.partial(step.gradients, objective, config=changed(config, micro_batch=size), mesh=mesh))
        .lower(params, {}, batch)
        .compile()
        .memory_analysis()
        .temp_size_in_bytes
        for size in (0, 4)
    ]
    assert needs[1] < 0.3 * needs[0]


PINNED = {"contrastive": 3.295969, "albef": 2.416621}


def test_first_loss_is_pinned(config):
    """A change here means that initialisation, batch order or the loss changed: explain it in the changelog."""
    parts = first_steps(config, 1, steps=1)[0][0]
    assert {name: float(parts[name]) for name in PINNED} == pytest.approx(PINNED, rel=1e-4)


def test_a_run_leaves_results_and_figures(config, tmp_path):
    results = method_run.train(config, str(tmp_path))
    assert results == json.loads((tmp_path / "results.json").read_text()) | {"config": results["config"]}
    for direction in ("t2v", "v2t"):
        assert {"R@1", "R@5", "R@10", "MedR", "MeanR", "SumR"} <= results["test"][direction].keys()
    assert results["test"]["groups"].keys() == {"vision", "sound", "speech"}
    assert results["test"]["gallery"]["videos"] == 13
    assert set(os.listdir(tmp_path / "figures")) >= {
        "loss.png",
        "recalls.png",
        "groups.png",
        "gates.png",
        "examples.png",
    }
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert {row["split"] for row in rows} == {"train", "val"}


def command(config_path: str, workdir: Path, shards: Path) -> list[str]:
    return [
        sys.executable, "-m", "save_jax.main", f"--config={config_path}:smoke", f"--workdir={workdir}",
        f"--config.data_dir={shards}", "--config.steps=40", "--config.eval_every=20", "--config.model.image_size=32",
        "--config.model.patch_size=16", "--config.data.tokenizer=data", "--config.model.vocab_size=600",
    ]  # fmt: skip


def test_a_stopped_run_ends_as_one_never_stopped(shards, tmp_path):
    """SIGTERM saves and leaves (SIGKILL: test_kill); the run that goes on ends with the same bytes."""
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    subprocess.run(
        command("configs/demo.py", straight, shards), cwd=REPOSITORY, env=ENVIRONMENT, check=True, capture_output=True
    )
    process = subprocess.Popen(
        command("configs/demo.py", stopped, shards), cwd=REPOSITORY, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    )
    assert any(line.startswith("step 2/40") for line in process.stdout)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert not (stopped / "results.json").exists()
    again = subprocess.run(
        command("configs/demo.py", stopped, shards),
        cwd=REPOSITORY,
        env=ENVIRONMENT,
        check=True,
        capture_output=True,
        text=True,
    )
    assert "continuing" in again.stdout
    one, other = (json.loads((workdir / "results.json").read_text()) for workdir in (straight, stopped))
    assert one["params_sha256"] == other["params_sha256"]
    assert one["test"] == other["test"]
    steps = [json.loads(line)["step"] for line in (stopped / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(steps)


def test_another_config_in_the_workdir_is_refused(config, tmp_path):
    workdir.claim_workdir(config, str(tmp_path))
    (tmp_path / "checkpoints" / "20").mkdir(parents=True)
    other = config.copy_and_resolve_references()
    other.seed, other.log_every = 7, 99
    with pytest.raises(ValueError, match=r"(?s)seed: 7 here, 0 there.*choose another --workdir") as error:
        workdir.claim_workdir(other, str(tmp_path))
    assert "log_every" not in str(error.value)


def test_a_failed_start_leaves_the_workdir_free(config, tmp_path):
    workdir.claim_workdir(config, str(tmp_path))  # and then, say, the batch did not fit
    (tmp_path / "checkpoints").mkdir()
    other = config.copy_and_resolve_references()
    other.batch_size = 16
    workdir.claim_workdir(other, str(tmp_path))


def test_other_shards_under_a_started_run_are_refused(config, tmp_path):
    method_run.train(config, str(tmp_path / "run"))
    directory = write_corpus(tmp_path / "shards", {"train": 16, "val": 9, "test": 13})
    other = config.copy_and_resolve_references()
    other.data_dir = str(directory)
    with pytest.raises(ValueError, match=r"was begun on other shards: clips-train.*set config.data_dir to those"):
        method_run.train(other, str(tmp_path / "run"))


def test_training_starts_from_towers_and_copies_them_into_the_fusion(config, tmp_path):
    """Parameters of two towers alone; the rest is new, and fusion starts from the text tower that was loaded."""
    config = config.copy_and_resolve_references().unlock()
    other = config.copy_and_resolve_references()
    other.seed = 5
    model, mesh = Retrieval(model_sizes(resolve(other))), sharding.make_mesh()
    donor = jax.jit(lambda key: state.init_params(model, other, key))(jax.random.key(5))
    loading.save_params(str(tmp_path / "clip"), {name: donor[name] for name in ("vision", "text", "logit_scale")})
    config.init_from, config.steps = str(tmp_path / "clip"), 2
    optimizer = optim.make_optimizer(config.optim, 2)
    params = state.start(model, optimizer, config, mesh).params
    for name in ("audio_fusion", "speech_fusion", "resampler"):
        chex.assert_trees_all_equal(params[name]["block_0"]["mlp"], donor["text"]["block_0"]["mlp"])
    method_run.train(resolve(config), str(tmp_path / "run"))


def test_a_config_without_newer_settings_goes_on(config, tmp_path):
    workdir.claim_workdir(config, str(tmp_path))
    (tmp_path / "checkpoints" / "20").mkdir(parents=True)
    stored = json.loads((tmp_path / "config.json").read_text())
    del stored["micro_batch"], stored["model"]["remat"], stored["model"]["precision"]
    stored["init_from"] = ""  # as before "random" had to be said
    (tmp_path / "config.json").write_text(json.dumps(stored))
    workdir.check_workdir(config, str(tmp_path))
    workdir.check_workdir(changed(config, **{"model.precision": "default"}), str(tmp_path))
    with pytest.raises(ValueError, match='init_from: "weights" here, "" there'):
        workdir.check_workdir(changed(config, init_from="weights"), str(tmp_path))
    with pytest.raises(ValueError, match="epochs: 7 here, 5 there"):
        workdir.check_workdir(changed(config, epochs=7), str(tmp_path))


@dataclasses.dataclass(frozen=True)
class Device:
    process_index: int
    id: int


def test_the_mesh_follows_the_processes_and_not_the_wiring():
    """JAX's own order for a TPU pod slice begins with processes 0 0 1 1 1 1 0 2; rows of a batch lie by process."""
    wired = [Device(process, number) for number, process in enumerate((0, 0, 1, 1, 1, 1, 0, 2, 2, 2, 0, 2))]
    assert [device.process_index for device in sharding.make_mesh(wired).devices] == [0] * 4 + [1] * 4 + [2] * 4


def test_a_batch_that_devices_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="batch_size 100 is not divisible by 8 devices; try 96 or 104"):
        sharding.check_batch_size(100, sharding.make_mesh())


def test_a_loss_that_turns_nan_names_step_and_clips(config, tmp_path):
    config = config.copy_and_resolve_references().unlock()
    config.optim.learning_rate, config.optim.warmup, config.optim.weight_decay = 1e18, 0.0, 1e18
    with pytest.raises(monitor.TrainingError, match=r"step 2: loss nan.*clips begin with train\d+"):
        method_run.train(resolve(config), str(tmp_path))
    told = json.loads((tmp_path / "bad-step-2.json").read_text())
    assert told["step"] == 2 and len(told["clips"]) == config.batch_size


def test_a_spike_stops_and_what_is_usual_does_not(config, tmp_path):
    watch = monitor.Watch(config, ["a", "b"], str(tmp_path))
    rows = [{"loss": 0.5 + 0.1 * (n % 3), "grad_norm": 1.0, "clip": [0, 1], "stop": False} for n in range(60)]
    assert watch.means(rows, 1).keys() == {"loss", "grad_norm"}
    watch.means([rows[0] | {"loss": 4.9}], 61)  # below config.spike itself, however low the usual loss
    with pytest.raises(monitor.TrainingError, match=r"step 62: loss 5.1.*more than config.spike=5 times"):
        watch.means([rows[0] | {"loss": 5.1}], 62)
    monitor.Watch(config, ["a", "b"], str(tmp_path)).means([rows[0] | {"loss": 50.0}], 1)  # the start has no usual loss


def test_training_never_starts_on_a_damaged_shard(config, tmp_path):
    directory = write_corpus(tmp_path / "shards", {"train": 8, "val": 8, "test": 8})
    path = next(directory.glob("clips-train.tfrecord-00001*-of-00002"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    config = config.copy_and_resolve_references().unlock()
    config.data_dir = str(directory)
    with pytest.raises(
        ShardError, match=r"clips-train\.tfrecord-00001-of-00002: record \d \(clip train\d+\) fails its"
    ):
        method_run.train(resolve(config), str(tmp_path / "run"))
    assert not (tmp_path / "run" / "config.json").exists()


def test_frames_of_another_size_are_refused(config):
    config = config.copy_and_resolve_references().unlock()
    config.model.image_size = 64
    with pytest.raises(ValueError, match="holds 32-pixel frames, the model reads 64"):
        pipeline.Data(resolve(config), ("train",))
