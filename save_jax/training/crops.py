"""Random parts of pictures, mirrored at random, made on the device: a clip looks different each time it is read."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, UInt8

ZOOM, STRETCH = 1.4, 1.1  # the most that a part is enlarged, and that one axis is on top of it
STREAM = 5  # of random numbers; 0 to 3 are of maskings and of pairs to match


def cropped(frames: UInt8[Array, "b t s s 3"], draws: Int[Array, " b"]) -> UInt8[Array, "b t s s 3"]:
    """Of every clip one part, the same in all its frames, in the size of the whole. Half of them are mirrored.

    Milder than MAE's (arXiv 2111.06377), whose parts begin at a fifth of a picture: what is seen must stay in it, since
    sounds and words are of all of it.

    Args:
        draws: decide the part, one for each clip, whatever else is in the batch.
    """
    side = frames.shape[2]

    def one(pictures: Array, draw: Array) -> Array:
        keys = jax.random.split(jax.random.fold_in(jax.random.key(STREAM), draw), 4)
        zoom = jax.random.uniform(keys[0], maxval=ZOOM, minval=1.0)
        zoom = zoom * jax.random.uniform(keys[1], (2,), maxval=STRETCH, minval=1.0)  # height and width
        shift = side * (1 - zoom) * jax.random.uniform(keys[2], (2,))
        part = jax.vmap(
            lambda x: jax.image.scale_and_translate(x, x.shape, (0, 1), zoom, shift, "linear", antialias=False)
        )(pictures.astype(jnp.float32))
        return jnp.where(jax.random.bernoulli(keys[3]), part[:, :, ::-1], part)

    return jnp.clip(jnp.round(jax.vmap(one)(frames, draws)), 0, 255).astype(jnp.uint8)
