"""Oddities of the reference that change numbers: where ours follows it, and where it differs on purpose, both shown.

Settings and where else they are tested: `config.model.weights`, `config.loss.*`, `config.optim.*` (golden parity,
test_optim), ties and dual softmax (`parity.metrics`, test_parity), the stable log-sum-exp
(test_similarity), frame choice (test_video), the margin without gradient (test_losses).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from save_jax.config import base
from save_jax.config.sizes import FusionSizes
from save_jax.data import tokenizer
from save_jax.models import clip, fusion
from save_jax.models.clip import at_end_of_text
from save_jax.models.fusion import GatedFusion, Resampler
from save_jax.training import losses, optim

F32 = jnp.dtype("float32")
SIZES = FusionSizes(width=16, head_dim=8, queries=3, resampler_layers=1, fusion_layers=1)
RNG = np.random.default_rng(0)
FRAMES, MEMORY = (jnp.asarray(RNG.normal(size=shape), jnp.float32) for shape in ((2, 4, 16), (2, 5, 16)))


def lively(module, *inputs) -> dict:
    """Parameters large enough that everything shows."""
    shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)
    return jax.tree.map(lambda x: jnp.asarray(RNG.normal(0.1, 0.4, x.shape), jnp.float32), shapes)


def test_weights_of_the_branches():
    """AVIGATE keeps 0.95 of the picture; SAVE adds half of either fused branch to all of it."""
    weights = base().model.weights
    assert (weights.avigate, weights.save) == ((0.95, 0.05), (1.0, 0.5, 0.5))


def test_three_epsilons():
    """CLIP's, timm's and CLIP4Clip's own layer norm; with nearly constant input each gives other numbers."""
    assert (clip.EPSILON, base().model.ast_epsilon, fusion.EPSILON) == (1e-5, 1e-6, 1e-12)
    assert losses.TEACHER_SCALE == 5.0 and base().optim.eps == 1e-6
    resampler = Resampler(SIZES, F32)
    params = lively(resampler, MEMORY)
    ours, faint = resampler.apply(params, MEMORY), resampler.apply(params, 1e-4 * MEMORY)
    np.testing.assert_allclose(ours, faint, rtol=1e-3, atol=1e-3)  # with 1e-5 in its place the sound would fade


def test_the_resampler_normalises_its_memory_and_the_fusion_does_not():
    """One ln_3 for queries and memory in the resampler; in the fusion ln_3 is for the frames alone."""
    resampler, fuse = Resampler(SIZES, F32), GatedFusion(SIZES, F32)
    params = lively(resampler, MEMORY)
    assert {name for name in params["params"]["block_0"] if name.startswith("ln")} == {"ln_1", "ln_2", "ln_3"}
    louder = resampler.apply(params, 3 * MEMORY)
    np.testing.assert_allclose(resampler.apply(params, MEMORY), louder, rtol=1e-3, atol=1e-3)
    params = lively(fuse, FRAMES, MEMORY)
    once, thrice = (fuse.apply(params, FRAMES, factor * MEMORY) for factor in (1.0, 3.0))
    assert np.abs(once.tokens - thrice.tokens).max() > 0.1


def test_padded_frames_and_words_take_part_in_the_fusion():
    """The reference masks neither its means nor its attentions; only the score leaves padded frames out."""
    fuse = GatedFusion(SIZES, F32)
    params = lively(fuse, FRAMES, MEMORY)
    before = fuse.apply(params, FRAMES, MEMORY)
    frame = fuse.apply(params, FRAMES.at[:, -1].add(1.0), MEMORY)
    word = fuse.apply(params, FRAMES, MEMORY.at[:, -1].add(1.0))
    for after in (frame, word):
        assert np.abs(after.tokens[:, :-1] - before.tokens[:, :-1]).max() > 1e-3
        assert np.abs(after.attention_gates - before.attention_gates).max() > 1e-4


def test_the_mask_that_is_left_out_changes_nothing_but_rounding():
    """The reference adds -1e6/100 to all scores of a padded frame's row. Softmax ignores it; float32 does not quite."""

    def softmax(scores):
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        return weights / weights.sum(axis=-1, keepdims=True)

    scores = RNG.normal(size=(6, 5))
    np.testing.assert_allclose(softmax(scores - 1e4), softmax(scores), atol=1e-11)
    coarse = softmax(scores.astype(np.float32) - np.float32(1e4))
    assert 1e-5 < np.abs(coarse - softmax(scores)).max() < 1e-3  # scores lie in steps of 1/1024 there


def test_a_text_ends_at_its_first_largest_id():
    tokens = jnp.arange(12.0).reshape(2, 3, 2)
    ids = jnp.array([[1, 9, 9], [9, 2, 0]])
    np.testing.assert_array_equal(at_end_of_text(tokens, ids), [[2, 3], [6, 7]])


def test_short_queries_are_encoded_and_short_transcripts_are_not(tmp_path):
    """The reference blanks both under five characters, so that nobody can search for "dog"."""
    tokenizer.learn(["a dog barks", "a cat"] * 3, str(tmp_path), 540)
    encode = tokenizer.Tokenizer(str(tmp_path))
    assert encode("dog", 8)[1] != 0 and encode("dog", 8).max() == encode.end
    assert not encode.transcript("dog", 8).any()  # what the reference makes of the query, too
    np.testing.assert_array_equal(encode.transcript("a dog", 8), encode("a dog", 8))


def test_two_sounds_in_a_batch_say_nothing():
    """Two numbers correlate by 1 or -1: the loss jumps between 0 and 2 each way, and has no gradient. Kept."""
    student, teacher = jnp.asarray(RNG.uniform(-1, 1, (2, 3, 3)), jnp.float32)
    valid = jnp.array([True, True, False])
    distances = losses.row_distances(student, teacher, valid)[:2]
    np.testing.assert_allclose(np.abs(distances - 1), 1, atol=1e-5)
    gradient = jax.grad(lambda x: losses.soft_albef(x, teacher, valid))(student)
    np.testing.assert_allclose(gradient, 0, atol=1e-4)


def test_the_rate_stays_zero_after_the_run():
    """The reference's cosine would rise again after its last step."""
    rate = optim.schedule(base().optim, 20)
    assert float(rate(0)) == 0 and float(rate(2)) == pytest.approx(0.9755e-4, rel=1e-4)
    reference = 1e-4 * 0.5 * (1 + np.cos(np.pi * 24 / 20))
    assert float(rate(24)) < 1e-11 < reference


def test_the_scale_of_the_margin_has_a_gradient():
    """The margin itself is constant; the temperature that multiplies it is not."""
    margin = losses.adaptive_margin(FRAMES[:, 0], FRAMES, jnp.ones((2, 4), bool), 0.2, 0.1)

    def loss(logit_scale):
        return losses.contrastive(jnp.exp(logit_scale) * margin)

    assert float(jax.grad(loss)(jnp.array(1.0))) > 1e-3
