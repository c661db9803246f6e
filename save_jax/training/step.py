"""The training step: gradients, also of batches too large for the device, and one update."""

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from save_jax import sharding
from save_jax.config import frozen_patterns
from save_jax.models import trees
from save_jax.training import optim
from save_jax.training.objectives import Embedded, Objective
from save_jax.training.state import TrainState


def loss_of_batch(objective: Objective, params: dict, batch: dict) -> tuple[jax.Array, dict]:
    """(total, parts) of a whole batch at once."""
    return objective.loss(params, objective.embed(params, batch), batch)


def gradients(
    objective: Objective, trained: trees.Flat, frozen: trees.Flat, batch: dict, *, config: ConfigDict, mesh: Mesh
) -> tuple[dict, trees.Flat]:
    """(parts, gradients of the trained parameters) of a batch, encoded at once or in config.micro_batch samples a time.

    Micro-batches (GradCache, arXiv 2101.06983) give the same gradients with the activations of one micro-batch in
    memory. They cost one more forward pass. First all micro-batches are embedded, without keeping activations. The loss
    over all embeddings gives the cotangent of each. Then each micro-batch is embedded again, and its cotangents are
    pulled back to the parameters.
    """
    micro_batches = config.batch_size // config.micro_batch if config.micro_batch else 1

    def whole(trained: trees.Flat) -> dict:
        params = sharding.gathered_kernels(
            trained | frozen, mesh, config.sharding, config.model.dtype, objective.model.exact_kernels
        )
        return trees.unflatten(params)

    if micro_batches == 1:

        def loss(trained: trees.Flat) -> tuple[jax.Array, dict]:
            return loss_of_batch(objective, whole(trained), batch)

        (_, parts), grads = jax.value_and_grad(loss, has_aux=True)(trained)
        return parts, grads

    def loss_of_embedded(trained: trees.Flat, embedded: Embedded) -> tuple[jax.Array, dict]:
        return objective.loss(whole(trained), embedded, batch)

    def add(total: trees.Flat, part_and_cotangents: tuple[dict, Embedded]) -> tuple[trees.Flat, None]:
        part, cotangents = part_and_cotangents
        _, pull_back = jax.vjp(lambda trained: objective.embed(whole(trained), part), trained)
        return jax.tree.map(jnp.add, total, pull_back(cotangents)[0]), None

    parts_of_batch = jax.tree.map(lambda x: sharding.split_rows(x, micro_batches, mesh), batch)
    embedded = jax.lax.map(lambda part: objective.embed(whole(trained), part), parts_of_batch)
    embedded = jax.tree.map(lambda x: sharding.join_rows(x, mesh), embedded)
    (_, parts), (grads, cotangents) = jax.value_and_grad(loss_of_embedded, (0, 1), has_aux=True)(trained, embedded)
    cotangents = jax.tree.map(lambda x: sharding.split_rows(x, micro_batches, mesh), cotangents)
    return parts, jax.lax.scan(add, grads, (parts_of_batch, cotangents))[0]


def make_train_step(objective: Objective, optimizer: optax.GradientTransformation, config: ConfigDict, mesh: Mesh):
    """The jitted step (state, batch) → (state, parts). The state is donated, and stays sharded by config.sharding.

    `parts` are those of the objective, with grad_norm and, if the parameters have one, logit_scale. They also have the
    batch's `clip` (numbers) and `stop` (whether any row has it). So every process knows all clips of a step that
    failed, and a signal to one process stops all at the same step. All parts are replicated.
    """

    def train_step(state: TrainState, batch: dict) -> tuple[TrainState, dict]:
        trained, frozen = optim.split_frozen(state.params, frozen_patterns(config))
        parts, grads = gradients(objective, trained, frozen, batch, config=config, mesh=mesh)
        grads = jax.lax.with_sharding_constraint(grads, sharding.of_state(grads, mesh, config.sharding))
        updates, opt_state = optimizer.update(grads, state.opt_state, trained)
        trained = optim.limit_logit_scale(optax.apply_updates(trained, updates), config.optim.max_logit_scale)
        parts |= {"grad_norm": optax.tree.norm(grads)}
        if "logit_scale" in trained:
            parts |= {"logit_scale": jnp.exp(trained["logit_scale"])}
        if "clip" in batch:
            parts |= {"clip": batch["clip"], "stop": batch["stop"].any()}
        state = TrainState(state.step + 1, trees.unflatten(trained | frozen), opt_state)
        state = jax.lax.with_sharding_constraint(state, sharding.of_state(state, mesh, config.sharding))
        return state, sharding.gathered(parts, mesh)

    return jax.jit(train_step, donate_argnums=0)
