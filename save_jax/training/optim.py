"""BertAdam as the reference runs it (schedule, learning rates by name, decay, clipping, frozen parts), and AdamW.

Unlike in `optax.adamw` the moments are not bias-corrected, and the clip factor has 1e-6 in its denominator. The
reference clips each tensor on its own after the global clip. Its norm is within the limit by then: this would change it
by 1e-6 of its size at most, and is left out. Decay is decoupled and multiplied by the learning rate. Parameters named
`bias` are not decayed. All others are, also layer-norm scales, logit_scale, positions and query tokens.
"""

import re
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from save_jax.models.trees import Flat, flatten


def split_frozen(params: Mapping, frozen: tuple[str, ...]) -> tuple[Flat, Flat]:
    """(trained, frozen) parameters. Frozen ones get no gradient, no moments and no decay."""
    flat = flatten(params)
    names = [name for name in flat if any(re.search(pattern, name) for pattern in frozen)]
    return {name: x for name, x in flat.items() if name not in names}, {name: flat[name] for name in names}


def multiplier(name: str, multipliers: tuple[tuple[str, float], ...]) -> float:
    """The learning-rate factor of a parameter: that of the first pattern that its name matches, else 1."""
    return next((factor for pattern, factor in multipliers if re.search(pattern, name)), 1.0)


def schedule(config: ConfigDict, total_steps: int) -> optax.Schedule:
    """Linear warm-up over a share of all steps, then a cosine over the *whole* run, as in the reference.

    So the rate is 0 at the first step, jumps a little where the warm-up ends, and never quite reaches its base.
    """

    def rate(step: jax.Array) -> jax.Array:
        progress = step / total_steps
        cosine = 0.5 * (1 + jnp.cos(jnp.pi * jnp.minimum(progress, 1.0)))
        warming = progress / max(config.warmup, 1e-9)
        return config.learning_rate * jnp.where(progress < config.warmup, warming, cosine)

    return rate


def clip_like_torch(limit: float) -> optax.GradientTransformation:
    """Clips the global norm, with PyTorch's 1e-6 in the denominator."""

    def update(grads, state, params=None):
        factor = jnp.minimum(1.0, limit / (optax.tree.norm(grads) + 1e-6))
        return jax.tree.map(lambda g: g * factor, grads), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def scale_by_bert_adam(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """`m / (√v + eps)` without bias correction; both moments start at 0."""

    def init(params):
        zeros = jax.tree.map(jnp.zeros_like, params)
        return optax.ScaleByAdamState(count=jnp.zeros([], jnp.int32), mu=zeros, nu=jax.tree.map(jnp.zeros_like, params))

    def update(grads, state, params=None):
        mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, grads)
        nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state.nu, grads)
        updates = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + eps), mu, nu)
        return updates, optax.ScaleByAdamState(count=state.count + 1, mu=mu, nu=nu)

    return optax.GradientTransformation(init, update)


def make_optimizer(config: ConfigDict, total_steps: int) -> optax.GradientTransformation:
    """The optimiser over the flat dictionary of trained parameters. `config` is `config.optim`."""

    def scale_by_label(updates, state, params=None):
        return {name: u * -multiplier(name, config.multipliers) for name, u in updates.items()}, state

    return optax.chain(
        clip_like_torch(config.clip_norm),
        scale_by_bert_adam(config.b1, config.b2, config.eps),
        optax.add_decayed_weights(config.weight_decay, lambda flat: {name: "bias" not in name for name in flat}),
        optax.GradientTransformation(lambda params: optax.EmptyState(), scale_by_label),
        optax.scale_by_schedule(schedule(config, total_steps)),
    )


def adamw(config: ConfigDict, total_steps: int) -> optax.GradientTransformation:
    """AdamW with a linear warm-up and a cosine to 0, over the flat dictionary. Only kernels are decayed.

    `config` is `config.optim` of VLSA.
    """
    warmup = round(config.warmup * total_steps)
    rate = optax.warmup_cosine_decay_schedule(0.0, config.learning_rate, warmup, total_steps)
    decayed = lambda flat: {name: name.endswith("kernel") for name in flat}  # noqa: E731
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(rate, config.b1, config.b2, config.eps, weight_decay=config.weight_decay, mask=decayed),
    )


def limit_logit_scale(flat: Flat, maximum: float) -> Flat:
    """Limits logit_scale to ln(maximum), as the reference does after every step."""
    return flat | {"logit_scale": jnp.minimum(flat["logit_scale"], jnp.log(maximum))} if "logit_scale" in flat else flat
