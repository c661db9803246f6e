"""Attention by each kernel that this machine can compute, and which kernel is chosen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from save_jax import sharding
from save_jax.config.finding import read_config
from save_jax.models.attention import attend, kernel_for


def config_with(**model: str):
    config = read_config("demo:smoke")
    config.model.update(model)
    return config


def test_a_cpu_has_one_kernel_and_says_what_cudnn_needs():
    mesh = sharding.make_mesh()
    assert kernel_for(config_with(attention="auto"), mesh) == kernel_for(config_with(attention="xla"), mesh) == "cpu"
    with pytest.raises(ValueError, match="attention=cudnn needs an NVIDIA GPU, and the model runs on cpu here"):
        kernel_for(config_with(attention="cudnn", dtype="bfloat16"), mesh)


@pytest.mark.parametrize("kernel", ["cpu", "tpu"])
@pytest.mark.parametrize("tokens", [7, 520])
def test_masked_attention_is_that_of_jax(tokens, kernel):
    """Also where a sample has no key at all: finite numbers."""
    query, key, value = jax.random.normal(jax.random.key(0), (3, 3, tokens, 2, 8))
    mask = jnp.arange(tokens) < jnp.array([[tokens], [5], [0]])
    ours = attend(query, key, value, kernel, False, mask)
    theirs = jax.nn.dot_product_attention(query, key, value, mask=mask[:, None, None, :])
    np.testing.assert_allclose(ours[:2], theirs[:2], atol=1e-5)
    assert np.isfinite(ours).all()


@pytest.mark.parametrize(("tokens", "causal"), [(7, False), (7, True), (520, False), (520, True)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kernel", ["cpu", "tpu"])
def test_attention_is_that_of_jax(tokens, causal, dtype, kernel):
    """Short ones at once, long ones head by head."""
    query, key, value = jax.random.normal(jax.random.key(0), (3, 2, tokens, 3, 8)).astype(dtype)
    ours = attend(query, key, value, kernel, causal)
    theirs = jax.nn.dot_product_attention(query, key, value, is_causal=causal)
    assert ours.dtype == theirs.dtype
    np.testing.assert_allclose(np.float32(ours), np.float32(theirs), atol=2e-2 if dtype == "bfloat16" else 1e-5)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("queries", "keys", "causal"),
    [(8, 8, False), (7, 7, False), (7, 4, False), (4, 7, False), (8, 8, True), (7, 7, True)],
)
def test_odd_lengths_are_made_even_for_cudnn(queries, keys, causal, masked, monkeypatch):
    """What cuDNN is given has even lengths, and the token that makes them even changes nothing."""
    query = jax.random.normal(jax.random.key(0), (3, queries, 2, 8), jnp.bfloat16)
    key, value = jax.random.normal(jax.random.key(1), (2, 3, keys, 2, 8), jnp.bfloat16)
    mask = jnp.arange(keys) < jnp.array([[keys], [2], [keys - 1]]) if masked else None
    plain = attend(query, key, value, "cpu", causal, mask)
    real, given = jax.nn.dot_product_attention, []

    def in_the_place_of_cudnn(query, key, value, *, implementation, **more):
        given.extend([implementation, query.shape[1] % 2, key.shape[1] % 2])
        return real(query, key, value, implementation="xla", **more)

    monkeypatch.setattr(jax.nn, "dot_product_attention", in_the_place_of_cudnn)
    fused = attend(query, key, value, "cudnn", causal, mask)
    assert given == ["cudnn", 0, 0]
    np.testing.assert_allclose(np.float32(fused), np.float32(plain), atol=2e-2)


@pytest.mark.parametrize(("width", "dtype"), [(12, "bfloat16"), (136, "bfloat16"), (16, "float32")])
def test_heads_that_do_not_fit_cudnn_take_the_other_way(width, dtype):
    """JAX would refuse cuDNN on this machine, so this one ran without."""
    x = jnp.ones((1, 4, 2, width), dtype)
    np.testing.assert_allclose(np.float32(attend(x, x, x, "cudnn", False)), 1, atol=1e-2)
    with pytest.raises(RuntimeError, match="cuDNN"):
        attend(*(3 * [jnp.ones((1, 4, 2, 16), jnp.bfloat16)]), "cudnn", False)
