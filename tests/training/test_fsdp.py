"""config.sharding=fsdp: what is split, in which dtype it is gathered, and that the numbers stay."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from save_jax import sharding
from save_jax.bench import step as bench_step
from save_jax.config.finding import read_config
from save_jax.config.resolving import resolve
from save_jax.models.retrieval import Retrieval, make_model
from save_jax.models.vlsa import Vlsa
from save_jax.training import optim, state
from save_jax.training.objectives import RetrievalObjective
from save_jax.training.step import make_train_step


def test_tables_of_words_stay_whole_and_kernels_are_split():
    mesh = sharding.make_mesh(jax.devices()[:2])
    tree = {"text": {"token_embedding": np.zeros((4096, 64))}, "mlp": {"kernel": np.zeros((256, 1024))}}
    layout = sharding.of_state(tree, mesh, "fsdp")
    assert layout["text"]["token_embedding"] == sharding.replicated(mesh)
    assert layout["mlp"]["kernel"] == NamedSharding(mesh, PartitionSpec(None, "data"))


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("vision/block_0/mlp/fc/kernel", jnp.bfloat16),
        ("vision/block_0/ln_1/scale", jnp.float32),
        ("audio_fusion/block_0/cross_attention/key/kernel", jnp.bfloat16),
        ("resampler/block_0/cross_attention/key/kernel", jnp.float32),  # a norm's scale is multiplied into it first
        ("heads_video/kernel", jnp.float32),  # VLSA's heads multiply in float32
    ],
)
def test_kernels_are_gathered_in_the_dtype_of_their_products(name, dtype):
    mesh = sharding.make_mesh(jax.devices()[:2])
    params = {name: jnp.ones((256, 256))}

    def gather(mode: str, computed: str) -> jnp.dtype:
        exact = (Vlsa if name.startswith("heads") else Retrieval).exact_kernels
        gathered = jax.eval_shape(lambda p: sharding.gathered_kernels(p, mesh, mode, computed, exact), params)
        return gathered[name].dtype

    assert gather("fsdp", "bfloat16") == dtype
    assert gather("fsdp", "float32") == gather("replicated", "bfloat16") == jnp.float32


def test_a_sharded_step_in_bfloat16_is_that_of_whole_parameters():
    """A CPU gathers in float32 whatever it is asked for; what is gathered on a GPU is in tests/aot."""
    config = read_config("demo:smoke").copy_and_resolve_references().unlock()
    config.model.dtype, config.batch_size = "bfloat16", 8
    config.model.vision_width = config.model.text_width = config.model.embed_dim = 128
    mesh, states = sharding.make_mesh(jax.devices()[:2]), {}
    for mode in ("replicated", "fsdp"):
        config.sharding = mode
        settings = resolve(config)
        model, optimizer = make_model(settings, mesh), optim.make_optimizer(settings.optim, 10)
        step = make_train_step(RetrievalObjective(model, settings), optimizer, settings, mesh)
        batch = bench_step.made(bench_step.batch_shapes(settings), settings, sharding.by_sample(mesh))
        begun = state.create(model, optimizer, settings, mesh, {})
        for _ in range(2):
            begun, parts = step(begun, batch)
        states[mode] = jax.device_get((begun.params, parts))
    chex.assert_trees_all_close(*(states[mode][1]["loss"] for mode in states), rtol=2e-3)
    chex.assert_trees_all_close(*(states[mode][0] for mode in states), rtol=0, atol=2e-4)
