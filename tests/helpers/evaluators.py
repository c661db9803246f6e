"""An evaluator of the made corpus's test split, with random parameters."""

import jax

from save_jax import sharding
from save_jax.config import model_sizes
from save_jax.data import pipeline
from save_jax.evaluation.retrieval import RetrievalEvaluator
from save_jax.models.retrieval import Retrieval
from save_jax.training import state


def evaluator_and_params(config, devices: int = 1) -> tuple[RetrievalEvaluator, dict]:
    mesh = sharding.make_mesh(jax.devices()[:devices])
    model = Retrieval(model_sizes(config))
    params = jax.jit(lambda key: state.init_params(model, config, key))(jax.random.key(0))
    params = jax.device_put(params, sharding.replicated(mesh))
    return RetrievalEvaluator(model, pipeline.Data(config, ("test",)), config, mesh), params
