"""The model's structure: branches, gates, padding, precision, and what starts from what."""

import dataclasses
from collections.abc import Iterator

import chex
import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest

from save_jax.config import METHODS, model_sizes, resolve
from save_jax.config.sizes import PIXEL_MEAN, PIXEL_STD
from save_jax.models.layers import Attention, FewQueriesAttention, LayerNorm, PatchEmbedding
from save_jax.models.retrieval import Retrieval
from save_jax.training import state
from save_jax.training.objectives import RetrievalObjective
from save_jax.training.step import loss_of_batch


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
        "frame_mask": jnp.array([[True, True], [True, False]]),
        "fbank": jnp.array(rng.normal(size=(2, 1024, 128)), jnp.float16),
        "speech_ids": jnp.array(rng.integers(1, 500, (2, 12)), jnp.int32),
        "text_ids": jnp.array(rng.integers(1, 500, (2, 12)), jnp.int32),
    }


def encode(net, params, video):
    return jax.jit(lambda p, v: net.apply({"params": p}, v, method=Retrieval.encode_video))(params, video)


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


def test_padded_frames_are_zero_after_normalisation(config, video):
    """As the authors' loader pads. A black picture is another thing."""
    net, params = build(config)
    pixels = (np.asarray(video["frames"]) / 255 - np.array(PIXEL_MEAN)) / np.array(PIXEL_STD)
    padded = np.where(np.asarray(video["frame_mask"])[..., None, None, None], pixels, 0).astype(np.float32)
    expected = encode(net, params, video | {"frames": jnp.asarray(padded)})
    ours = encode(net, params, video)
    np.testing.assert_allclose(ours.fused, expected.fused, atol=1e-5)
    np.testing.assert_allclose(ours.visual, expected.visual, atol=1e-5)
    black = encode(net, params, video | {"frame_mask": jnp.ones((2, 2), bool)})
    assert np.abs(black.fused - ours.fused)[1].max() > 1e-2


REPLACED = {"ast": {"fbank": "ast"}}  # by config.cache: live input → what stands in its place
REPLACED["towers"] = REPLACED["ast"] | {"frames": "visual", "speech_ids": "speech", "text_ids": "text"}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("cache", REPLACED)
def test_stored_outputs_of_towers_stand_in_for_the_live_inputs(config, video, cache, dtype):
    """To the bit as computed, and within the rounding of what is stored as bfloat16."""
    net, params = build(config, dtype=dtype)
    stored = jax.jit(lambda p, v: net.apply({"params": p}, v, method=Retrieval.towers))(params, video)
    assert {name: x.dtype for name, x in stored.items()} == {
        name: jnp.dtype(dtype if name == "ast" else "float32") for name in ("visual", "ast", "speech", "text")
    }
    run = jax.jit(lambda p, v: net.apply({"params": p}, v))
    live = run(params, video)
    kept = {name: x for name, x in video.items() if name not in REPLACED[cache]}
    names = REPLACED[cache].values()
    exact = run(params, kept | {name: stored[name].astype(jnp.float32) for name in names})
    rounded = run(params, kept | {name: stored[name].astype(jnp.bfloat16) for name in names})
    chex.assert_trees_all_equal(exact, live)
    chex.assert_trees_all_equal_shapes_and_dtypes(rounded, live)
    for ours, theirs in zip(*map(jax.tree.leaves, (rounded, live)), strict=True):
        assert jnp.abs(ours - theirs).max() <= 0.02 * jnp.abs(theirs).max()  # a bfloat16 holds 1 part in 256
    assert not np.array_equal(rounded[1].fused, live[1].fused) or (cache, dtype) == ("ast", "bfloat16")


def test_only_what_is_given_and_read_is_stored(config, video):
    net, params = build(config, "vision,audio")
    found = jax.eval_shape(lambda p, v: net.apply({"params": p}, v, method=Retrieval.towers), params, video)
    assert found.keys() == {"visual", "ast", "text"}
    del video["frames"]
    found = jax.eval_shape(lambda p, v: net.apply({"params": p}, v, method=Retrieval.towers), params, video)
    assert found.keys() == {"ast", "text"}


def test_gates_are_one_scalar_per_layer_within_one(config, video):
    net, params = build(config, fusion_layers=3)
    gates = encode(net, params, video).audio_fused.attention_gates
    chex.assert_shape(gates, (2, 3))
    assert np.abs(gates).max() < 1


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


def test_attention_of_few_queries_is_attention():
    """Values and gradients, with norms and biases that are not 1 and 0."""
    keys = iter(jax.random.split(jax.random.key(0), 30))
    x, audio, cotangent = (jax.random.normal(next(keys), shape) for shape in ((2, 3, 8), (2, 17, 8), (2, 3, 8)))
    plain, few = Attention(8, 2, jnp.dtype("float32")), FewQueriesAttention(8, 2, jnp.dtype("float32"))
    norm, bare = (LayerNorm(1e-12, jnp.dtype("float32"), **kind) for kind in ({}, {"scale_and_shift": False}))
    params = {"norm": norm.init(next(keys), audio)["params"], "attention": plain.init(next(keys), x, audio)["params"]}
    params = jax.tree.map(lambda p: p + jax.random.normal(next(keys), p.shape), params)

    def expected(params: dict, audio: jax.Array) -> jax.Array:
        memory = norm.apply({"params": params["norm"]}, audio)
        return jnp.sum(cotangent * plain.apply({"params": params["attention"]}, x, memory))

    def folded(params: dict, audio: jax.Array) -> jax.Array:
        scale, shift, memory = params["norm"]["scale"], params["norm"]["bias"], bare.apply({}, audio)
        return jnp.sum(cotangent * few.apply({"params": params["attention"]}, x, memory, scale, shift))

    ours, theirs = (jax.value_and_grad(f, (0, 1))(params, audio) for f in (folded, expected))
    chex.assert_trees_all_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_remat_keeps_less_and_changes_nothing(config, video):
    """Gradients within 1e-5 of the largest: compiled apart, sums are taken in another order."""
    _, params = build(config)
    params = jax.tree.map(lambda x: x + 0.03, params)  # gates that are open
    stored = {"ast": jnp.ones((2, 9, 32)), "visual": jnp.ones((2, 2, 32)), "speech": jnp.ones((2, 12, 32))}
    many = {name: jnp.zeros((64, *x.shape[1:]), x.dtype) for name, x in (video | {"ast": stored["ast"]}).items()}
    grads, kept = {}, {}
    for kind in ("none", "dots", "blocks"):
        net = Retrieval(dataclasses.replace(model_sizes(config), remat=kind))

        def loss(params: dict, inputs: dict, net=net) -> jax.Array:
            return jnp.sum(jnp.sin(net.apply({"params": params}, inputs, method=Retrieval.encode_video).fused))

        grads[kind] = jax.jit(jax.grad(loss))(params, stored)
        saved = jax.eval_shape(lambda params, loss=loss: jax.vjp(lambda p: loss(p, many), params)[1], params)
        kept[kind] = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(saved))
    largest = max(float(jnp.abs(x).max()) for x in jax.tree.leaves(grads["none"]))
    for kind in ("dots", "blocks"):
        chex.assert_trees_all_close(grads[kind], grads["none"], rtol=0, atol=1e-5 * largest)
    assert kept["blocks"] < 0.5 * kept["none"] and kept["blocks"] < kept["dots"] < 0.75 * kept["none"], kept


def products(jaxpr: jax.extend.core.Jaxpr) -> Iterator[jax.extend.core.JaxprEqn]:
    """Matrix products and convolutions, also of inner functions."""
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("dot_general", "conv_general_dilated"):
            yield equation
        for value in equation.params.values():
            for inner in value if isinstance(value, (tuple, list)) else [value]:
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from products(inner)


def test_in_bfloat16_nothing_large_is_multiplied_in_float32(config, video):
    """Of a step's forward pass and gradients, by the name of the einsum or module that multiplies."""
    config = config.copy_and_resolve_references().unlock()
    config.model.dtype = "bfloat16"
    net, params = build(config)
    batch = video | {name: jnp.ones((2, 1024)) for name in ("teacher_video", "teacher_audio")}
    batch |= {"frame_mask": jnp.ones((2, 2), bool)} | {name: jnp.ones(2, bool) for name in ("has_audio", "has_teacher")}
    objective = RetrievalObjective(net, resolve(config))
    step = jax.make_jaxpr(jax.grad(lambda params: loss_of_batch(objective, params, batch)[0]))(params)
    wide = set()
    for equation in products(step.jaxpr):
        half = equation.params.get("precision") == jax.lax.DotAlgorithmPreset.BF16_BF16_F32
        if not half and any(x.aval.dtype == jnp.float32 for x in equation.invars):
            wide.add(str(equation.source_info.name_stack).rstrip(")").rpartition("(")[2].split("/")[-1])
    meant = {"vd,qd->vq", "vtd,qd->vtq", "btd,bt->bd"}  # the score
    meant |= {"id,jd->ij"}  # cosines of margin and teacher
    meant |= {"cross_attention"}  # the resampler's: a vector times a matrix, folded into a bias
    assert wide == meant
