"""float32 means float32 on accelerators, too: every product asks for it, in training, evaluation and search.

A CPU computes in float32 whatever is asked for. So what is compared here is what the programs ask for.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.jaxprs import precisions

from save_jax import sharding
from save_jax.bench import step as bench_step
from save_jax.bench import vlsa as bench_vlsa
from save_jax.config import resolve
from save_jax.config.finding import read_config
from save_jax.evaluation.retrieval import encoders
from save_jax.methods import run
from save_jax.models import similarity
from save_jax.training import state
from save_jax.training.step import make_train_step

HIGHEST = "(Precision.HIGHEST, Precision.HIGHEST)"
ONLY_HIGHEST = {HIGHEST}
RECIPES = ("demo:smoke", "demo:smoke,model=avigate", "demo:smoke,model=vision", "vlsa_pretrain:demo,smoke")


def settings(recipe: str, **model: object):
    config = read_config(recipe).unlock()
    config.model.update(model)
    return resolve(config)


def step_of(config):
    """The jaxpr of a training step, as JAX makes it where nobody has set a precision."""
    mesh = sharding.make_mesh()
    method = run.make_method(config, mesh)
    optimizer = method.optimizer(2)
    made = state.shapes(method.model, optimizer, config, mesh)
    shapes = (bench_step if config.task == "retrieval" else bench_vlsa).batch_shapes(config)
    batch = {name: jax.ShapeDtypeStruct(shape, dtype) for name, (shape, dtype) in shapes.items()}
    with jax.default_matmul_precision("default"):
        return make_train_step(method.objective, optimizer, config, mesh).trace(made, batch).jaxpr.jaxpr


@pytest.mark.parametrize("recipe", RECIPES)
def test_training_asks_for_float32(recipe):
    assert precisions(step_of(settings(recipe))) == ONLY_HIGHEST


def test_a_faster_precision_is_a_setting():
    faster = precisions(step_of(settings(RECIPES[0], precision="default")))
    assert HIGHEST in faster and len(faster) > 1  # the score and the losses stay exact


def test_evaluation_asks_for_float32():
    config = settings(RECIPES[0])
    mesh = sharding.make_mesh()
    method = run.make_method(config, mesh)
    params = jax.eval_shape(lambda: state.init_params(method.model, config, jax.random.key(0)))
    batch = {name: jnp.zeros((8, *x.shape[1:]), x.dtype) for name, x in method.model.example(config).items()}
    made = encoders(method.model, mesh)
    with jax.default_matmul_precision("default"):
        modalities = made.modalities.trace(params, batch)
        fused = made.fuse.trace(params, modalities.out_info)
        text = made.text.trace(params, batch["text_ids"])
    for traced in (modalities, fused, text):
        assert precisions(traced.jaxpr.jaxpr) == ONLY_HIGHEST


def test_the_score_and_the_mean_of_its_frames_are_exact():
    def scored(tokens, mask, texts):
        return similarity.score(texts, similarity.index(tokens, mask), jnp.zeros([]))

    with jax.default_matmul_precision("default"):
        program = jax.make_jaxpr(scored)(np.zeros((2, 3, 4), np.float32), np.ones((2, 3), bool), np.zeros((5, 4)))
    assert precisions(program.jaxpr) == ONLY_HIGHEST


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match=r"config\.model\.precision is 'best'; choose one of auto"):
        settings(RECIPES[0], precision="best")
