"""The score against METHOD's formula written out in NumPy, and where a naive form breaks."""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from save_jax.models import similarity


def by_hand(texts, tokens, mask, scale, temperature):
    out = np.zeros((len(texts), len(tokens)))
    for i, t in enumerate(texts):
        for j, (video, valid) in enumerate(zip(tokens, mask, strict=True)):
            frames = [f / np.linalg.norm(f) for f, real in zip(video, valid, strict=True) if real]
            mean, t = np.mean(frames, axis=0), t / np.linalg.norm(t)
            mean /= np.linalg.norm(mean)
            soft = np.log(sum(np.exp(temperature * scale * (t @ f)) for f in frames)) / temperature
            out[i, j] = 0.5 * scale * (t @ mean) + 0.5 * soft
    return out


class ScoreTest(chex.TestCase):
    """The same numbers op by op, as a search may call it, and compiled, as training and evaluation do."""

    @chex.variants(with_jit=True, without_jit=True)
    def test_score_by_hand(self):
        rng = np.random.default_rng(0)
        texts, tokens = rng.normal(size=(4, 8)), rng.normal(size=(3, 5, 8))
        mask = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0]], bool)
        score = self.variant(similarity.score, static_argnames=("temperature", "grains"))
        for temperature in (1.0, 2.0):
            index = self.variant(similarity.index)(jnp.array(tokens), jnp.array(mask))
            scores = score(jnp.array(texts), index, jnp.log(14.0), temperature=temperature)
            chex.assert_shape(scores, (4, 3))
            np.testing.assert_allclose(scores, by_hand(texts, tokens, mask, 14.0, temperature), rtol=1e-5)


def test_padding_never_matters():
    rng = np.random.default_rng(1)
    tokens, mask = rng.normal(size=(2, 4, 8)).astype(np.float32), np.array([[1, 1, 0, 0], [1, 1, 1, 0]], bool)
    other = np.where(mask[..., None], tokens, 1e3).astype(np.float32)
    scores = [
        similarity.score(jnp.ones((1, 8)), similarity.index(jnp.array(x), jnp.array(mask)), jnp.array(2.0))
        for x in (tokens, other)
    ]
    np.testing.assert_array_equal(*scores)


def test_large_scales_stay_finite():
    """The reference exponentiates directly: exp(100 · 2) is infinite in float32."""
    index = similarity.index(jnp.ones((1, 3, 4)), jnp.ones((1, 3), bool))
    score = similarity.score(jnp.ones((1, 4)), index, jnp.log(100.0), temperature=2.0)
    assert not np.isfinite(np.exp(np.float32(200)))
    np.testing.assert_allclose(score, 100 + 0.25 * np.log(3), rtol=1e-6)


def test_a_video_without_frames_ranks_last_with_finite_score_and_gradient():
    mask = jnp.array([[True, True], [False, False]])

    def total(tokens):
        return similarity.score(jnp.ones((1, 4)), similarity.index(tokens, mask), jnp.array(1.0))[0]

    tokens = jnp.stack([-jnp.ones((2, 4)), jnp.zeros((2, 4))])
    scores = total(tokens)
    assert scores[1] < scores[0] and np.isfinite(scores).all()
    assert np.isfinite(jax.grad(lambda x: total(x)[0])(tokens)).all()
