"""The work that is counted from sizes is that of the programs; of training, tests/bench holds more of it to them."""

import jax
import pytest
from helpers.jaxprs import products

from save_jax import sharding
from save_jax.config import resolve
from save_jax.config.finding import read_config
from save_jax.models import operations, retrieval, vlsa
from save_jax.training.step import loss_of_batch
from save_jax.training.vlsa_objectives import Finetuning


def made(name: str, **settings: object):
    config = read_config(name)
    config.update_from_flattened_dict(settings)
    return resolve(config)


def one_sample(model, config) -> tuple[dict, dict]:
    """Shapes of the parameters, and of a batch of one."""
    batch = jax.eval_shape(lambda: model.example(config))
    return jax.eval_shape(lambda: model.init(jax.random.key(0), model.example(config))["params"]), batch


def test_encoding_runs_every_tower_once():
    """Without sound: our resampler takes fewer products than the method as written, which is what is counted."""
    config = made("demo:smoke", **{"batch_size": 1, "model.branches": "vision,speech", "cache": "towers"})
    model = retrieval.make_model(config, sharding.make_mesh())
    params, batch = one_sample(model, config)
    traced = jax.make_jaxpr(lambda params, batch: model.apply({"params": params}, batch))(params, batch)
    assert sum(operations.of_encoding(config).values()) == products(traced.jaxpr)


@pytest.mark.parametrize("pairs", [("text-video",), ("text-video", "text-audio", "video-audio")])
def test_fine_tuning_of_vlsa(pairs):
    config = made("vlsa_finetune:smoke", **{"batch_size": 1, "loss.pairs": pairs, "model.width": 64})
    model = vlsa.make_model(config, sharding.make_mesh())
    params, batch = one_sample(model, config)
    batch["text_ids"] = batch["words"]
    objective = Finetuning(model, config)
    traced = jax.make_jaxpr(jax.grad(lambda params, batch: loss_of_batch(objective, params, batch)[0]))(params, batch)
    tokens = sum(count for name, count in model.sizes.counts.items() if name in objective.names)
    means = 2 * 2 * tokens * 64  # and their gradients: elementwise work that is written as a product
    assert sum(operations.of_finetuning(config).values()) + means == products(traced.jaxpr)
    assert operations.of_training(config) == operations.of_finetuning(config)
