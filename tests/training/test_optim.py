"""The optimiser against its formulas, by hand: schedule, moments, decay, labels, frozen parts."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from save_jax.config import base
from save_jax.models import trees
from save_jax.training import optim


def settings(**changes: object) -> ConfigDict:
    config = base().optim
    config.update(changes)
    return config


def test_schedule_by_hand():
    rate = optim.schedule(settings(learning_rate=1.0), 20)
    found = [float(rate(step)) for step in (0, 1, 2, 10, 20, 25)]
    # 0, half of warm-up, then the cosine over the whole run; past the end it stays 0 (the reference's rises again).
    np.testing.assert_allclose(found, [0, 0.5, 0.5 * (1 + np.cos(np.pi / 10)), 0.5, 0, 0], atol=1e-7)


def test_two_steps_by_hand():
    config = settings(learning_rate=0.1, warmup=0.0, multipliers=(("fast", 10.0),))
    optimizer = optim.make_optimizer(config, 100)
    params = {"fast/kernel": jnp.array([1.0]), "slow/bias": jnp.array([2.0])}
    grads = {"fast/kernel": jnp.array([0.3]), "slow/bias": jnp.array([-0.4])}  # norm 0.5: below the limit
    opt_state = optimizer.init(params)
    expected, moments = {name: float(p[0]) for name, p in params.items()}, {name: [0.0, 0.0] for name in params}
    for step in range(2):
        updates, opt_state = optimizer.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
        for name, factor, decay in (("fast/kernel", 10, 0.2), ("slow/bias", 1, 0.0)):
            g, (m, v) = float(grads[name][0]), moments[name]
            m, v = 0.9 * m + 0.1 * g, 0.98 * v + 0.02 * g * g
            moments[name] = [m, v]
            rate = 0.1 * factor * 0.5 * (1 + np.cos(np.pi * step / 100))
            expected[name] -= rate * (m / (np.sqrt(v) + 1e-6) + decay * expected[name])
    for name, value in expected.items():
        assert float(params[name][0]) == pytest.approx(value, rel=1e-5)


def test_the_global_norm_is_clipped_to_one():
    grads = {"a": jnp.array([3.0]), "b": jnp.array([4.0])}
    clipped, _ = optim.clip_like_torch(1.0).update(grads, None)
    np.testing.assert_allclose([clipped["a"][0], clipped["b"][0]], [0.6, 0.8], rtol=1e-5)


@pytest.mark.parametrize("others", [0.0, 1e-3, 1.0])
def test_to_clip_each_tensor_once_more_would_change_nothing_but_rounding(others):
    """As the reference does. The worst case is a tensor that has the whole norm."""
    grads = {"a": jnp.array([300.0, 400.0]), "b": jnp.full(3, others)}
    clipped, _ = optim.clip_like_torch(1.0).update(grads, None)
    for gradient in clipped.values():
        again = gradient * jnp.minimum(1.0, 1.0 / (jnp.linalg.norm(gradient) + 1e-6))
        np.testing.assert_allclose(again, gradient, rtol=1.2e-6)


def test_labels_of_the_paper():
    names = {
        "resampler/query_tokens": 100.0,
        "resampler/query_position_embedding": 1.0,
        "vision/block_0/mlp/fc/kernel": 1e-3,
        "text/projection": 1e-3,
        "logit_scale": 1e-3,
        "ast/norm/scale": 1e-3,
        "audio_projection": 1.0,
        "audio_fusion/block_1/attention_gate/fc/kernel": 1.0,
    }
    assert {name: optim.multiplier(name, base().optim.multipliers) for name in names} == names


def test_frozen_parts_of_the_paper():
    frozen = ["vision/class_embedding", "vision/position_embedding", "vision/patch_embedding/kernel",
              "vision/ln_pre/scale", "text/token_embedding", "text/position_embedding", "ast/class_token",
              "ast/block_0/ln_1/scale", "ast/patch_embedding/bias"]  # fmt: skip
    trained = ["vision/ln_post/bias", "vision/block_0/ln_1/scale", "text/ln_final/scale", "ast/norm/scale",
               "audio_projection", "frame_position_embedding", "logit_scale"]  # fmt: skip
    params = trees.unflatten(dict.fromkeys(frozen + trained, 0))
    found_trained, found_frozen = optim.split_frozen(params, base().optim.frozen)
    assert sorted(found_trained) == sorted(trained) and sorted(found_frozen) == sorted(frozen)


def test_logit_scale_is_cut():
    flat = optim.limit_logit_scale({"logit_scale": jnp.array(9.0), "x": jnp.array(9.0)}, 100.0)
    assert float(flat["logit_scale"]) == pytest.approx(np.log(100)) and flat["x"] == 9
