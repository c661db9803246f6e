"""The PyTorch twin of `tests/bench` computes what our training step computes: loss, every gradient, and some steps."""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.places import REPOSITORY

from save_jax import sharding
from save_jax.bench import command as bench
from save_jax.config import base, frozen_patterns, model_sizes, resolve, smoke
from save_jax.models import operations, trees
from save_jax.models.retrieval import Retrieval
from save_jax.training import optim, state
from save_jax.training.objectives import RetrievalObjective
from save_jax.training.step import make_train_step
from save_jax.weights import convert
from save_jax.weights.rules import RULES

torch = pytest.importorskip("torch", reason="needs the torch extra")
from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

sys.path.append(str(REPOSITORY / "tests" / "bench"))
import step_torch  # noqa: E402
import twin  # noqa: E402
import twin_training  # noqa: E402

BATCH, STEPS = 5, 10
CACHES = ("none", "ast", "towers")


def settings(cache: str):
    """A tiny SAVE with several patches, layers, frames and words, and the real rates and frozen parts."""
    config = smoke(base())
    config.cache, config.batch_size = cache, BATCH
    config.data.max_frames, config.data.max_words = 3, 7
    config.model.update(
        {"image_size": 32, "patch_size": 16, "vocab_size": 50, "vision_width": 48, "ast_patch": (16, 16),
         "ast_stride": (56, 400), "fusion_layers": 2, "queries": 4, "fusion_init_std": 0.2}
    )  # fmt: skip
    return resolve(config)


def made_batches(config, params: dict, model: Retrieval) -> dict[str, dict[str, np.ndarray]]:
    """config.cache → random inputs of every kind, of which it names some that our towers compute instead."""
    rng, m, words = np.random.default_rng(0), config.model, config.data.max_words
    ids = np.concatenate([rng.integers(1, 48, (2 * BATCH, words - 1)), np.zeros((2 * BATCH, 1))], axis=1)
    ids[np.arange(2 * BATCH), rng.integers(2, words, 2 * BATCH)] = 49  # the end-of-text token
    batch = {
        "frames": rng.integers(0, 255, (BATCH, config.data.max_frames, m.image_size, m.image_size, 3), np.uint8),
        "frame_mask": np.arange(config.data.max_frames) < rng.integers(1, config.data.max_frames + 1, (BATCH, 1)),
        "fbank": rng.standard_normal((BATCH, 1024, 128)).astype(np.float16),
        "has_audio": np.array([1, 1, 0, 1, 1], bool),
        "has_teacher": np.array([1, 1, 1, 0, 1], bool),
        "teacher_video": rng.standard_normal((BATCH, 1024)).astype(np.float32),
        "teacher_audio": rng.standard_normal((BATCH, 1024)).astype(np.float32),
        "text_ids": ids[:BATCH].astype(np.int32),
        "speech_ids": ids[BATCH:].astype(np.int32),
    }
    inputs = jax.tree.map(jnp.asarray, batch)
    towers = jax.device_get(jax.jit(lambda *args: model.apply(*args, method="towers"))({"params": params}, inputs))
    live = {"ast": "fbank", "visual": "frames", "speech": "speech_ids", "text": "text_ids"}
    return {
        cache: {name: x for name, x in batch.items() if name not in [live[n] for n in stored]}
        | {name: towers[name] for name in stored}
        for cache, stored in {"none": (), "ast": ("ast",), "towers": tuple(live)}.items()
    }


def made_params(shapes: dict) -> dict:
    """Random norms and biases too, which would start as ones and zeros: a swapped pair would not show."""
    rng = np.random.default_rng(1)

    def made(name: str, shape: tuple[int, ...]) -> jax.Array:
        noise = rng.standard_normal(shape, np.float32) * (shape[-2] ** -0.5 if len(shape) > 1 else 0.1)
        return jnp.asarray(noise + (1.0 if name.endswith("scale") else 0.0), jnp.float32)

    return trees.unflatten({name: made(name, x.shape) for name, x in trees.flatten(shapes).items()})


@pytest.fixture(scope="module")
def made():
    """(our model, our parameters, batches): the same with every config.cache."""
    config = settings("none")
    model = Retrieval(model_sizes(config))
    shapes = jax.eval_shape(lambda: state.init_params(model, config, jax.random.key(0)))
    params = made_params(shapes)
    return model, params, made_batches(config, params, model)


@pytest.fixture(scope="module", params=CACHES)
def both(request, made):
    """(config, our model, our parameters, batch, the twin with the same weights)."""
    config, (model, params, batches) = settings(request.param), made
    theirs = twin.Save(model_sizes(config), config.cache)
    load(theirs, params)
    return config, model, params, batches[config.cache], theirs


def load(theirs: "twin.Save", params: dict) -> None:
    theirs.load_state_dict(in_their_names(params))  # strict: every name, every shape


def tensors(batch: dict[str, np.ndarray]) -> dict[str, "torch.Tensor"]:
    return {name: torch.from_numpy(np.array(x)) for name, x in batch.items()}


def in_their_names(tree: dict) -> dict[str, "torch.Tensor"]:
    return twin_training.from_official(convert.to_official(jax.device_get(tree), RULES["save"]))


@pytest.mark.parametrize("both", ["none", "towers"], indirect=True)
def test_loss_and_every_gradient(both):
    """Not with AST stored alone: what is trained then is trained live, too, and the loss is held to that below."""
    config, model, params, batch, theirs = both
    objective = RetrievalObjective(model, config)
    trained, frozen = optim.split_frozen(params, frozen_patterns(config))

    def loss(trained, batch):
        whole = trees.unflatten(trained | frozen)
        return objective.loss(whole, objective.embed(whole, batch), batch)[0]

    ours, grads = jax.jit(jax.value_and_grad(loss))(trained, batch)
    theirs.zero_grad()
    found = theirs(tensors(batch))
    found.backward()
    assert abs(float(ours) - found.item()) < 1e-4 * abs(float(ours))
    zeros = {name: jnp.zeros_like(x) for name, x in frozen.items()}
    expected = in_their_names(trees.unflatten(grads | zeros))
    for name, parameter in theirs.named_parameters():
        if parameter.requires_grad:
            grad, largest = parameter.grad.numpy(), parameter.grad.abs().max().item()
            # A key's bias changes nothing but by rounding; next to its neighbours' gradients that is nothing.
            assert largest > 0, name
            np.testing.assert_allclose(expected[name], grad, atol=1e-4 * max(largest, 1e-5), rtol=0, err_msg=name)
        else:  # frozen on both sides
            assert not expected[name].any(), name


def test_operations_are_those_that_pytorch_counts(both):
    """Every product of the twin's step, in exact numbers, with attention as plain products."""
    config, _, _, batch, theirs = both
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        theirs(tensors(batch)).backward()
    theirs.zero_grad()
    masked_means = 3 * 2 * BATCH * config.data.max_frames * config.model.embed_dim
    assert counter.get_total_flops() == sum(operations.of_step(config).values()) + masked_means


def test_rates_and_decays(both):
    config, _, params, _, theirs = both
    rates = {name: optim.multiplier(name, config.optim.multipliers) for name in trees.flatten(params)}
    filled = {name: np.full(x.shape, rates[name], np.float32) for name, x in trees.flatten(params).items()}
    expected = in_their_names(trees.unflatten(filled))
    optimizer = twin_training.make_optimizer(theirs)
    names = {parameter: name for name, parameter in theirs.named_parameters()}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            assert (expected[names[parameter]] == np.float32(group["factor"])).all(), names[parameter]
            assert group["weight_decay"] == (0 if "bias" in names[parameter] else config.optim.weight_decay)
    settings = [config.optim[name] for name in ("b1", "b2", "eps", "learning_rate", "warmup", "clip_norm")]
    assert settings == [
        *group["betas"],
        group["eps"],
        twin_training.LEARNING_RATE,
        twin_training.WARMUP,
        twin_training.CLIP,
    ]


def test_stored_towers_give_the_loss_of_live_ones(made):
    _, params, batches = made
    losses = {}
    for cache in CACHES:
        theirs = twin.Save(model_sizes(settings(cache)), cache)
        load(theirs, params)
        with torch.no_grad():
            losses[cache] = theirs(tensors(batches[cache])).item()
    assert losses == {cache: pytest.approx(losses["none"], rel=1e-4) for cache in CACHES}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_residual_streams_have_the_type_of_autocast(made, dtype):
    """As ours: float32 positions would make every block after them add, and hand on, twice the bytes."""
    _, params, batches = made
    theirs = twin.Save(model_sizes(settings("none")), "none")
    load(theirs, params)
    found = {}
    for name in ("clip.visual.transformer", "clip.transformer", "clip.audio.v.transformer"):
        for number, block in enumerate(theirs.get_submodule(name).resblocks):
            block.register_forward_pre_hook(lambda _, x, at=(name, number): found.update({at: x[0].dtype}))
    loss = twin_training.Trainer(theirs, STEPS, dtype).step(tensors(batches["none"]))
    assert len(found) >= 3 and set(found.values()) == {dtype}
    assert loss.dtype == torch.float32 and torch.isfinite(loss)


@pytest.mark.parametrize("both", ["towers"], indirect=True)
def test_three_steps_of_the_optimiser(both):
    """Losses, and what the steps changed; the first has rate 0. CLIP's rates move few bits: hence the test above."""
    config, model, params, batch, theirs = both
    load(theirs, params)
    trainer = twin_training.Trainer(theirs, STEPS)
    mesh = sharding.make_mesh(jax.devices()[:1])
    optimizer = optim.make_optimizer(config.optim, STEPS)
    step = make_train_step(RetrievalObjective(model, config), optimizer, config, mesh)
    trained, _ = optim.split_frozen(params, frozen_patterns(config))
    train_state = state.TrainState(jnp.zeros([], jnp.int32), jax.tree.map(jnp.array, params), optimizer.init(trained))
    train_state = jax.device_put(train_state, sharding.replicated(mesh))
    for _ in range(3):
        train_state, parts = step(train_state, sharding.to_devices(batch, mesh))
        found = trainer.step(tensors(batch))
        assert abs(float(parts["loss"]) - found.item()) < 1e-4 * abs(found.item())
    now, before = in_their_names(train_state.params), in_their_names(params)
    for name, parameter in theirs.named_parameters():
        change = (parameter.detach() - before[name]).numpy()
        rounding = 4 * np.finfo(np.float32).eps * max(before[name].abs().max(), now[name].abs().max())
        limit = 1e-2 * np.abs(change).max() + rounding  # small gradients over the root of small moments
        np.testing.assert_allclose(now[name] - before[name], change, atol=limit, rtol=0, err_msg=name)


def test_a_side_that_dies_takes_no_other_with_it(monkeypatch, tmp_path):
    """At its start, in its second turn, when it measures, or at its second start: a small program in a side's place."""
    script = tmp_path / "side.py"
    script.write_text(
        "import json, os, sys\n"
        "name, spec = sys.argv[-1], json.loads(sys.stdin.readline())\n"
        "again = os.path.exists(spec['mark'] + name)\n"
        "open(spec['mark'] + name, 'w').close()\n"
        "if name == 'start' or again and name == 'again': sys.exit('no memory left')\n"
        "print('>> {\"loss\": 1}', flush=True)\n"
        "for number, line in enumerate(sys.stdin):\n"
        "    if number == {'turn': 1, 'measure': 2}.get(name): sys.exit('no memory left')\n"
        "    answer = {'seconds': 2.0, 'processor': 1.0} if line.startswith('steps') else {'rate': 3.0, 'bytes': 4}\n"
        "    print('>> ' + json.dumps(answer), flush=True)\n"
    )
    monkeypatch.setattr(step_torch, "HERE", script)
    spec = {"device": "gpu", "mark": str(tmp_path / "started-")}
    names = ["ours", "start", "turn", "measure", "again"]
    found = step_torch.compare(dict.fromkeys(names, spec), 2, 1, float("inf"), warm=True)
    assert {name for name, side in found.items() if side.get("failed") == "no memory left"} == set(names[1:])
    assert [len(side["turns"]) for side in found.values()] == [2, 0, 1, 2, 2]
    assert [name for name, side in found.items() if side.get("median") == 2.0] == ["ours", "turn", "measure", "again"]
    assert [name for name, side in found.items() if "rate" in side] == ["ours", "again"]
    assert [name for name, side in found.items() if "start_warm" in side] == ["ours"]


def test_bench_all_measures_the_twin(tmp_path, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")
    path = tmp_path / "all.json"
    bench.main(["all", "--device=cpu", "--only=twin towers", "--rounds=2", f"--json={path}"])
    found = json.loads(path.read_text())
    [row] = found["parts"]["twin towers"]["figures"]["rows"]
    assert row["sides"].keys() == {"twin, eager"}
    milliseconds = 1e3 * row["sides"]["twin, eager"]["median"]
    assert found["summary"][0]["measured"] == f"twin, eager {milliseconds:.1f} ms; ours not measured"


def test_the_comparison_runs(tmp_path):
    """The command itself, at tiny sizes, each side in its process."""
    script, path = REPOSITORY / "tests" / "bench" / "step_torch.py", tmp_path / "found.json"
    options = ["--backbone", "tiny", "--batch", "2", "--cache", "towers", "--rounds", "2", "--json", str(path)]
    env = os.environ | {"XLA_FLAGS": "--xla_backend_optimization_level=0"}  # one device, as on a user's machine
    done = subprocess.run([sys.executable, script, *options], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = json.loads(path.read_text())["rows"]
    ours, theirs = row["sides"]["ours"], row["sides"]["twin, eager"]
    assert row["ours_over_twin"] == ours["median"] / theirs["median"]
    for side in (ours, theirs):
        assert len(side["turns"]) == 2 and side["min"] <= side["median"] <= side["max"]
        assert np.isfinite(side["loss"]) and side["bytes"] > 0 and side["start_cold"] > 0
        assert side["share_of_matrix_rate"] == row["operations"] / side["median"] / row["matrix_rate"]
    assert row["matrix_rate"] == max(ours["rate"], theirs["rate"])
    assert "ours / the fastest twin" in done.stdout
