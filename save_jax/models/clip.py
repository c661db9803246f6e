"""CLIP's two towers, a ViT and a causal text transformer, as in OpenAI's code. arXiv 2103.00020."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from save_jax.config.sizes import PIXEL_MEAN, PIXEL_STD, ClipSizes
from save_jax.models.layers import ACTIVATIONS, Block, LayerNorm, PatchEmbedding, project, remat

EPSILON = 1e-5


def _blocks(
    x: Float[Array, "b n d"],
    sizes: ClipSizes,
    depth: int,
    dtype: jnp.dtype,
    kind: str,
    kernel: str,
    causal: bool = False,
) -> Float[Array, "b n d"]:
    """The transformer of a tower, whose blocks become `block_0`, … of the module that calls it. `kind`: see `remat`."""
    width, activation = x.shape[-1], ACTIVATIONS[sizes.activation]
    heads, make = width // sizes.head_dim, remat(Block, kind)
    for layer in range(depth):
        name = f"block_{layer}"
        x = make(width, heads, depth, activation, EPSILON, dtype, kernel, causal=causal, name=name)(x)
    return x


class VisionTower(nn.Module):
    """Pictures → one vector each: class token → ln_post → projection. Not normalised."""

    sizes: ClipSizes
    dtype: jnp.dtype
    remat: str = "none"
    kernel: str = "cpu"

    @nn.compact
    def __call__(self, pixels: Float[Array, "b s s 3"]) -> Float[Array, "b d"]:
        s, init = self.sizes, nn.initializers.normal(self.sizes.vision_width**-0.5)
        patch = (s.patch_size, s.patch_size)
        patches = PatchEmbedding(s.vision_width, patch, patch, False, self.dtype, name="patch_embedding")(pixels)
        class_embedding = self.param("class_embedding", init, (s.vision_width,))
        position = self.param("position_embedding", init, (1 + patches.shape[1], s.vision_width))
        class_token = jnp.broadcast_to(class_embedding.astype(self.dtype), (patches.shape[0], 1, s.vision_width))
        x = jnp.concatenate([class_token, patches], axis=1) + position.astype(self.dtype)
        x = LayerNorm(EPSILON, self.dtype, name="ln_pre")(x)
        x = _blocks(x, s, s.vision_layers, self.dtype, self.remat, self.kernel)
        x = LayerNorm(EPSILON, self.dtype, name="ln_post")(x[:, 0])
        projection = self.param("projection", init, (s.vision_width, s.embed_dim))
        return project(x, projection)


class TextTower(nn.Module):
    """Token ids → the joint-space vector of every position. The id 0 pads and is not masked, as in the reference."""

    sizes: ClipSizes
    dtype: jnp.dtype
    remat: str = "none"
    kernel: str = "cpu"

    @nn.compact
    def __call__(self, ids: Int[Array, "b w"]) -> Float[Array, "b w d"]:
        s = self.sizes
        table = self.param("token_embedding", nn.initializers.normal(0.02), (s.vocab_size, s.text_width))
        position = self.param("position_embedding", nn.initializers.normal(0.01), (s.context_length, s.text_width))
        x = (table[ids] + position[: ids.shape[1]]).astype(self.dtype)
        x = _blocks(x, s, s.text_layers, self.dtype, self.remat, self.kernel, causal=True)
        x = LayerNorm(EPSILON, self.dtype, name="ln_final")(x)
        init = nn.initializers.normal(s.text_width**-0.5)
        return project(x, self.param("projection", init, (s.text_width, s.embed_dim)))


def at_end_of_text(tokens: Float[Array, "b w d"], ids: Int[Array, "b w"]) -> Float[Array, "b d"]:
    """The vector at the end-of-text token, the largest id of the vocabulary; at the first one if there are several."""
    return jnp.take_along_axis(tokens, jnp.argmax(ids, axis=1)[:, None, None], axis=1)[:, 0]


def normalize_pixels(
    frames: jax.Array, dtype: jnp.dtype, mean: tuple[float, ...] = PIXEL_MEAN, std: tuple[float, ...] = PIXEL_STD
) -> jax.Array:
    """uint8 pictures [..., 3] → normalised pixels. Float pictures count as normalised already.

    `mean`, `std`: of pixels between 0 and 1, CLIP's by default.
    """
    if frames.dtype != jnp.uint8:
        return frames.astype(dtype)
    return ((frames.astype(jnp.float32) - jnp.array(mean) * 255) / (jnp.array(std) * 255)).astype(dtype)
