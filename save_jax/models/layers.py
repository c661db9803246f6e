"""The parts that every tower is made of: layer norm, attention, MLP and the pre-norm residual block.

Weights are float32; compute runs in `dtype`; layer-norm statistics and softmax run in float32.
"""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Initializer = Callable[..., jax.Array]
normal_02 = nn.initializers.normal(0.02)  # CLIP4Clip's initialisation of everything that is not pretrained


def quick_gelu(x: jax.Array) -> jax.Array:
    """`x · sigmoid(1.702 x)`, the activation of CLIP and of everything here but AST."""
    return x * jax.nn.sigmoid(1.702 * x)


exact_gelu = functools.partial(jax.nn.gelu, approximate=False)  # AST's activation


def LayerNorm(epsilon: float, dtype: jnp.dtype, name: str) -> nn.LayerNorm:
    """Layer norm whose variance is computed in two passes, as PyTorch's: the fast formula loses digits."""
    return nn.LayerNorm(epsilon=epsilon, dtype=dtype, use_fast_variance=False, name=name)


def project(x: Float[Array, "*b n"], weight: Float[Array, "n d"]) -> Float[Array, "*b d"]:
    """Into the joint space: multiplied in x's dtype, summed and kept in float32, as all from there to the score."""
    return jnp.matmul(x, weight.astype(x.dtype), preferred_element_type=jnp.float32)


class PatchEmbedding(nn.Module):
    """A picture [b, h, w, c] → one vector for every patch, row by row: a convolution without padding.

    Patches that neither overlap nor leave anything out (CLIP's) are cut by a reshape and multiplied as one matrix: the
    same sum, and faster on a CPU.
    """

    width: int
    patch: tuple[int, int]
    stride: tuple[int, int]
    use_bias: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, picture: Float[Array, "b h w c"]) -> Float[Array, "b n d"]:
        batch, height, width, channels = picture.shape
        (ph, pw), picture = self.patch, picture.astype(self.dtype)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (ph, pw, channels, self.width)).astype(self.dtype)
        if self.stride == self.patch and height % ph == 0 and width % pw == 0:
            grid = picture.reshape(batch, height // ph, ph, width // pw, pw, channels).swapaxes(2, 3)
            x = grid.reshape(batch, -1, ph * pw * channels) @ kernel.reshape(-1, self.width)
        else:
            layout = ("NHWC", "HWIO", "NHWC")
            x = jax.lax.conv_general_dilated(picture, kernel, self.stride, "VALID", dimension_numbers=layout)
            x = x.reshape(batch, -1, self.width)
        if self.use_bias:
            x = x + self.param("bias", nn.initializers.zeros, (self.width,)).astype(self.dtype)
        return x


class Attention(nn.Module):
    """Multi-head attention of `x` over `memory` (over `x` itself if there is none)."""

    width: int
    heads: int
    dtype: jnp.dtype
    causal: bool = False
    in_init: Initializer = normal_02
    out_init: Initializer = normal_02

    @nn.compact
    def __call__(self, x: Float[Array, "b q d"], memory: Float[Array, "b k d"] | None = None) -> Float[Array, "b q d"]:
        memory = x if memory is None else memory
        split = (*x.shape[:-1], self.heads, self.width // self.heads)
        split_memory = (*memory.shape[:-1], self.heads, self.width // self.heads)
        dense = functools.partial(nn.Dense, self.width, dtype=self.dtype)
        query = dense(kernel_init=self.in_init, name="query")(x).reshape(split)
        key = dense(kernel_init=self.in_init, name="key")(memory).reshape(split_memory)
        value = dense(kernel_init=self.in_init, name="value")(memory).reshape(split_memory)
        out = jax.nn.dot_product_attention(query, key, value, is_causal=self.causal)
        return dense(kernel_init=self.out_init, name="out")(out.reshape(x.shape))


class MLP(nn.Module):
    """Two linear layers, four times as wide inside."""

    width: int
    activation: Callable[[jax.Array], jax.Array]
    dtype: jnp.dtype
    use_bias: bool = True
    in_init: Initializer = normal_02
    out_init: Initializer = normal_02

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        dense = functools.partial(nn.Dense, use_bias=self.use_bias, dtype=self.dtype)
        x = self.activation(dense(4 * self.width, kernel_init=self.in_init, name="fc")(x))
        return dense(self.width, kernel_init=self.out_init, name="proj")(x)


class Block(nn.Module):
    """Pre-norm residual block: `x += Attention(ln_1(x)); x += MLP(ln_2(x))`.

    `depth` is the number of blocks in the tower: CLIP and AST shrink what they add to the residual stream with it.
    """

    width: int
    heads: int
    depth: int
    activation: Callable[[jax.Array], jax.Array]
    epsilon: float
    dtype: jnp.dtype
    causal: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        # OpenAI CLIP's initialisation; irrelevant once pretrained weights are loaded.
        out_init = nn.initializers.normal((2 * self.depth * self.width) ** -0.5)
        attention = Attention(
            self.width,
            self.heads,
            self.dtype,
            causal=self.causal,
            in_init=nn.initializers.normal(self.width**-0.5),
            out_init=out_init,
            name="attention",
        )
        mlp = MLP(
            self.width,
            self.activation,
            self.dtype,
            in_init=nn.initializers.normal((2 * self.width) ** -0.5),
            out_init=out_init,
            name="mlp",
        )
        x = x + attention(LayerNorm(self.epsilon, self.dtype, name="ln_1")(x))
        return x + mlp(LayerNorm(self.epsilon, self.dtype, name="ln_2")(x))
