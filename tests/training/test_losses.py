"""Losses against arithmetic done by hand, and their edges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from save_jax.training import losses


def test_contrastive_by_hand():
    logits = np.array([[2.0, 0.0], [1.0, 3.0]])
    rows = np.log([1 + np.exp(-2), 1 + np.exp(-2)]).mean()
    columns = np.log([1 + np.exp(-1), 1 + np.exp(-3)]).mean()
    np.testing.assert_allclose(losses.contrastive(jnp.array(logits)), (rows + columns) / 2, rtol=1e-6)


def test_margin_by_hand():
    texts = jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    visual = jnp.array([[[2.0, 0.0]], [[0.0, 3.0]], [[1.0, 0.0]]])
    margin = losses.adaptive_margin(texts, visual, jnp.ones((3, 1), bool), beta=0.2, delta=0.1)
    # Pairs that differ in everything reach the limit 0.1; pairs that are alike, and matching ones, get none.
    np.testing.assert_allclose(margin, [[0, 0.1, 0], [0.1, 0, 0.1], [0, 0.1, 0]], atol=1e-7)


def test_no_gradient_through_the_margin():
    def total(texts):
        return losses.adaptive_margin(texts, jnp.ones((3, 2, 4)), jnp.ones((3, 2), bool), 0.2, 0.1).sum()

    assert not np.any(jax.grad(total)(jnp.arange(12.0).reshape(3, 4)))


def albef_by_hand(student, teacher, valid, distance):
    student, teacher = student[np.ix_(valid, valid)], teacher[np.ix_(valid, valid)]
    p, q = (scipy.special.softmax(5 * x, axis=1) for x in (student, teacher))
    return np.mean([distance(a, b) for a, b in zip(p, q, strict=True)])


DISTANCES = {
    "pearson": lambda a, b: 1 - scipy.stats.pearsonr(a, b).statistic,
    "mse": lambda a, b: np.sum((a - b) ** 2),
    "huber": lambda a, b: np.sum(0.5 * (a - b) ** 2),  # |a − b| ≤ 1: the quadratic part
}


@pytest.mark.parametrize("kind", DISTANCES)
def test_soft_albef_by_hand(kind):
    rng = np.random.default_rng(0)
    student, teacher = rng.uniform(-1, 1, (2, 5, 5))
    valid = np.array([True, False, True, True, True])
    expected = sum(albef_by_hand(s, t, valid, DISTANCES[kind]) for s, t in ((student, teacher), (student.T, teacher.T)))
    found = losses.soft_albef(jnp.array(student), jnp.array(teacher), jnp.array(valid), kind)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_hard_albef_by_hand():
    student = np.random.default_rng(0).uniform(-1, 1, (4, 4))
    expected = sum(-np.diagonal(scipy.special.log_softmax(5 * s, axis=1)).mean() for s in (student, student.T))
    found = losses.soft_albef(jnp.array(student), jnp.zeros((4, 4)), jnp.ones(4, bool), "hard")
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("kind", ["pearson", "mse", "huber", "hard"])
def test_without_two_sounds_the_loss_is_zero_and_so_is_its_gradient(count, kind):
    valid = jnp.arange(3) < count

    def loss(student):
        return losses.soft_albef(student, jnp.ones((3, 3)), valid, kind)

    value, gradient = jax.value_and_grad(loss)(jnp.arange(9.0).reshape(3, 3))
    assert value == 0 and not np.any(gradient)


def test_samples_without_sound_leave_no_trace():
    rng = np.random.default_rng(2)
    student, teacher = jnp.array(rng.uniform(-1, 1, (2, 4, 4)))
    valid = jnp.array([True, True, False, True])

    def loss(student):
        return losses.soft_albef(student, teacher, valid)

    gradient = jax.grad(loss)(student)
    assert np.isfinite(gradient).all()
    assert not np.any(gradient[2]) and not np.any(gradient[:, 2]) and np.any(gradient[0])
