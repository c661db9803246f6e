"""New states: what is drawn, what is copied, what is given, and where it lies."""

import jax
import jax.numpy as jnp
import numpy as np

from save_jax import sharding
from save_jax.config import model_sizes
from save_jax.models.retrieval import Retrieval
from save_jax.models.trees import flatten
from save_jax.training import optim, state


def test_numbers_are_those_of_one_program_on_every_mesh(config):
    model, optimizer = Retrieval(model_sizes(config)), optim.make_optimizer(config.optim, 10)
    plain = jax.jit(lambda key: state.init_params(model, config, key))(jax.random.key(config.seed))
    plain = {name: np.asarray(x) for name, x in flatten(plain).items()}
    for devices, config.sharding in ((1, "replicated"), (8, "fsdp")):
        mesh = sharding.make_mesh(jax.devices()[:devices])
        begun = state.create(model, optimizer, config, mesh, {})
        like = state.shapes(model, optimizer, config, mesh)
        assert jax.tree.map(lambda x: x.sharding, begun) == jax.tree.map(lambda x: x.sharding, like)
        found = flatten(begun.params)
        assert found.keys() == plain.keys()
        for name, x in plain.items():
            np.testing.assert_array_equal(np.asarray(found[name]), x, err_msg=name)
        assert all(not np.any(x) for x in jax.tree.leaves(begun.opt_state))


def test_what_is_given_or_copied_is_not_drawn(config, monkeypatch):
    """Drawing takes a program that a GPU's compiler needs minutes for; text is given, fusion copies of it."""
    model, mesh = Retrieval(model_sizes(config)), sharding.make_mesh()
    optimizer = optim.make_optimizer(config.optim, 10)
    text = jax.tree.map(
        lambda x: jax.device_put(jnp.full(x.shape, 3.0, x.dtype), x.sharding),
        state.shapes(model, optimizer, config, mesh).params["text"],
    )
    drawn = []
    from_host = sharding.from_host
    monkeypatch.setattr(sharding, "from_host", lambda x, where: drawn.append(x.shape) or from_host(x, where))
    begun = state.create(model, optimizer, config, mesh, {"text": text})
    every = flatten(begun.params)
    copied = [name for name, x in every.items() if np.all(x == 3.0)]
    assert any(name.startswith("audio_fusion/") for name in copied) and "frame_position_embedding" in copied
    assert len(drawn) == len(every) - len(copied)
