"""The model's structure: branches, gates, padding, precision, and what starts from what."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from save_jax import state
from save_jax.config import METHODS, model_sizes, resolve
from save_jax.models.layers import PatchEmbedding
from save_jax.models.retrieval import Retrieval


def build(config, branches: str = "vision,audio,speech", **model: object) -> tuple[Retrieval, dict]:
    config = config.copy_and_resolve_references().unlock()
    config.model.update(model | {"branches": branches})
    config = resolve(config)
    net = Retrieval(model_sizes(config))
    return net, jax.jit(lambda key: state.init_params(net, config, key))(jax.random.key(0))


@pytest.fixture
def video():
    rng = np.random.default_rng(0)
    return {
        "frames": jnp.array(rng.integers(0, 255, (2, 2, 32, 32, 3), np.uint8)),
        "fbank": jnp.array(rng.normal(size=(2, 1024, 128)), jnp.float16),
        "speech_ids": jnp.array(rng.integers(1, 500, (2, 12)), jnp.int32),
    }


def encode(net, params, video):
    return jax.jit(lambda p, v: net.apply({"params": p}, **v, method=Retrieval.encode_video))(params, video)


@pytest.mark.parametrize("branches", METHODS)
def test_a_method_has_the_parts_it_needs_and_no_others(config, video, branches):
    net, params = build(config, branches)
    parts = {"vision", "text", "logit_scale", "frame_position_embedding"}
    parts |= {"ast", "audio_projection", "resampler", "audio_fusion"} if "audio" in branches else set()
    parts |= {"speech_fusion"} if "speech" in branches else set()
    assert params.keys() == parts
    found = encode(net, params, video)
    assert (found.audio_fused is None) == ("audio" not in branches)
    assert (found.speech_fused is None) == ("speech" not in branches)
    if branches == "vision":
        np.testing.assert_array_equal(found.fused, found.visual)


def test_sound_and_speech_reach_the_fused_tokens_and_their_own_gates_only(config, video):
    net, params = build(config)
    before = encode(net, params, video)
    for name, own, other in (("fbank", "audio_fused", "speech_fused"), ("speech_ids", "speech_fused", "audio_fused")):
        after = encode(net, params, video | {name: jnp.zeros_like(video[name])})
        assert not np.allclose(after.fused, before.fused)
        assert not np.allclose(getattr(after, own).attention_gates, getattr(before, own).attention_gates)
        np.testing.assert_array_equal(getattr(after, other).tokens, getattr(before, other).tokens)
        np.testing.assert_array_equal(after.visual, before.visual)


def test_gates_are_one_scalar_per_layer_within_one(config, video):
    net, params = build(config, fusion_layers=3)
    gates = encode(net, params, video).audio_fused.attention_gates
    assert gates.shape == (2, 3) and np.abs(gates).max() < 1


def test_fusion_and_resampler_start_from_the_text_tower(config):
    _, params = build(config)
    for name in ("resampler", "audio_fusion", "speech_fusion"):
        for part in ("attention", "ln_1", "ln_2", "mlp"):
            jax.tree.map(np.testing.assert_array_equal, params[name]["block_0"][part], params["text"]["block_0"][part])
    np.testing.assert_array_equal(params["frame_position_embedding"], params["text"]["position_embedding"])
    queries = params["resampler"]["query_tokens"]
    np.testing.assert_allclose(queries @ queries.T, np.eye(len(queries)), atol=1e-5)


@pytest.mark.parametrize("stride", [(4, 4), (3, 4)])
def test_patches_are_a_convolution(stride):
    """Cut by a reshape or, where they overlap, by the convolution itself: the same numbers."""
    picture = jax.random.normal(jax.random.key(0), (2, 8, 12, 3))
    module = PatchEmbedding(16, (4, 4), stride, True, jnp.dtype("float32"))
    params = module.init(jax.random.key(1), picture)
    kernel = params["params"]["kernel"]
    layout = ("NHWC", "HWIO", "NHWC")
    expected = jax.lax.conv_general_dilated(picture, kernel, stride, "VALID", dimension_numbers=layout)
    np.testing.assert_allclose(module.apply(params, picture), expected.reshape(2, -1, 16), atol=1e-5)


def test_bfloat16_computes_in_bfloat16_and_keeps_float32_parameters(config, video):
    net, params = build(config)
    half, half_params = build(config, dtype="bfloat16")
    assert {x.dtype for x in jax.tree.leaves(half_params)} == {jnp.dtype("float32")}
    found, expected = encode(half, params, video).fused, encode(net, params, video).fused
    assert found.dtype == jnp.float32  # from the joint space on, residual sums stay exact
    error = float(jnp.abs(found - expected).max() / jnp.abs(expected).max())
    assert 1e-5 < error < 0.05
