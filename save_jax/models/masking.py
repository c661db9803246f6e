"""Masked modelling: which tokens of a sample are masked. A pure function of one key for each sample."""

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Shaped


@flax.struct.dataclass
class Masking:
    """Numbers of a sample's n tokens that stay visible, and of those that are masked and to be predicted.

    Every sample has as many slots on both sides as one that lacks no token. A sample with fewer tokens, such as a short
    text, fills the other slots with tokens that it lacks. The two masks are False in those slots.
    """

    visible: Int[Array, "b k"]
    visible_mask: Bool[Array, "b k"]
    masked: Int[Array, "b h"]
    masked_mask: Bool[Array, "b h"]

    def ordered(self, x: Shaped[Array, "b n d"]) -> Shaped[Array, "b n d"]:
        """Tokens in the order of the slots: visible ones, then masked ones."""
        order = jnp.concatenate([self.visible, self.masked], axis=1)
        return permute(x, order, jnp.argsort(order, axis=1))

    def restored(self, x: Shaped[Array, "b n d"]) -> Shaped[Array, "b n d"]:
        """The inverse of `ordered`."""
        order = jnp.concatenate([self.visible, self.masked], axis=1)
        return permute(x, jnp.argsort(order, axis=1), order)


def masked_count(tokens: int, share: float) -> int:
    """How many of `tokens` tokens are masked: `tokens * share`, rounded to the nearest integer, halves up."""
    return int(tokens * share + 0.5)


def draw_masking(keys: Array, mask: Bool[Array, "b g n"], share: float) -> Masking:
    """Masks exactly `masked_count(real, share)` of the real tokens of each group; every subset is equally likely.

    Args:
        keys: [b], one for each sample. A sample's masking depends on its own key and mask alone.
        mask: which tokens are real, in groups of n, such as the patches of each frame. Others are neither visible nor
            masked.
        share: of the real tokens that are masked.
    """
    batch, groups, tokens = mask.shape
    noise = jax.vmap(lambda one: jax.random.uniform(one, (groups, tokens)))(keys)
    rank = jnp.argsort(jnp.argsort(jnp.where(mask, noise, 2.0), axis=-1), axis=-1)
    counts = jnp.array([masked_count(real, share) for real in range(tokens + 1)])
    masked = mask & (rank < counts[mask.sum(axis=-1, keepdims=True)])
    # Visible tokens, then missing ones, then masked ones: the missing ones fill up both sides of the cut.
    order = jnp.argsort(jnp.where(masked, 2, jnp.where(mask, 0, 1)), axis=-1, stable=True)
    cut = tokens - masked_count(tokens, share)

    def side(slots: Int[Array, "b g k"], members: Bool[Array, "b g n"]) -> tuple[Int[Array, "b m"], Bool[Array, "b m"]]:
        is_member = jnp.take_along_axis(members, slots, axis=-1)
        return (slots + tokens * jnp.arange(groups)[:, None]).reshape(batch, -1), is_member.reshape(batch, -1)

    return Masking(*side(order[..., :cut], mask & ~masked), *side(order[..., cut:], masked))


@jax.custom_vjp
def permute(x: Array, order: Int[Array, "b n"], inverse: Int[Array, "b n"]) -> Array:
    """Rows of [b, n, d] in another order. The gradient gathers by `inverse`; JAX's own would scatter, which is slow."""
    return jnp.take_along_axis(x, order[..., None], axis=1)


def _forward(x: Array, order: Array, inverse: Array) -> tuple[Array, Array]:
    return permute(x, order, inverse), inverse


def _backward(inverse: Array, cotangent: Array) -> tuple[Array, None, None]:
    return jnp.take_along_axis(cotangent, inverse[..., None], axis=1), None, None


permute.defvjp(_forward, _backward)
