"""The parts that every tower is made of: layer norm, attention, MLP and the pre-norm residual block.

Weights are float32; compute runs in `dtype`; layer-norm statistics and softmax run in float32.
"""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from save_jax.models.attention import attend, summed_in_float32

Initializer = Callable[..., jax.Array]
normal_02 = nn.initializers.normal(0.02)  # CLIP4Clip's initialisation of everything that is not pretrained


def quick_gelu(x: jax.Array) -> jax.Array:
    """`x · sigmoid(1.702 x)`, the activation of CLIP and of everything here but AST."""
    return x * jax.nn.sigmoid(1.702 * x)


exact_gelu = functools.partial(jax.nn.gelu, approximate=False)  # AST's activation
ACTIVATIONS = {"gelu": exact_gelu, "quick_gelu": quick_gelu}  # by the name that settings have for them


def LayerNorm(epsilon: float, dtype: jnp.dtype, name: str | None = None, scale_and_shift: bool = True) -> nn.LayerNorm:
    """Layer norm whose variance is computed in two passes, as PyTorch's: the fast formula loses digits."""
    return nn.LayerNorm(
        epsilon=epsilon,
        dtype=dtype,
        use_bias=scale_and_shift,
        use_scale=scale_and_shift,
        use_fast_variance=False,
        name=name,
    )


def remat(module: type[nn.Module], kind: str) -> type[nn.Module]:
    """A module that recomputes activations for the gradient instead of keeping them. Its parameters keep their names.

    Args:
        kind: "none" keeps all activations; "blocks" recomputes all; "dots" keeps products with weights alone.
    """
    if kind == "none":
        return module
    return nn.remat(module, policy=jax.checkpoint_policies.dots_with_no_batch_dims_saveable if kind == "dots" else None)


def project(x: Float[Array, "*b n"], weight: Float[Array, "n d"]) -> Float[Array, "*b d"]:
    """Into the joint space. Multiplied in x's dtype, summed and kept in float32, like everything up to the score."""
    return jnp.matmul(x, weight.astype(x.dtype), **summed_in_float32(x.dtype))


class PatchEmbedding(nn.Module):
    """A picture [b, h, w, c] → one vector for every patch, row by row: a convolution without padding.

    Patches that neither overlap nor leave anything out (CLIP's) are cut by a reshape and multiplied as one matrix. The
    sums are the same, and a CPU is faster at them.
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
    """Multi-head attention of `x` over `memory`, or over `x` itself. `mask`: what is attended to, see `attend`."""

    width: int
    heads: int
    dtype: jnp.dtype
    kernel: str = "cpu"  # see `attend`
    causal: bool = False
    in_init: Initializer = normal_02
    out_init: Initializer = normal_02

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b q d"],
        memory: Float[Array, "b k d"] | None = None,
        mask: Bool[Array, "b k"] | None = None,
    ) -> Float[Array, "b q d"]:
        memory = x if memory is None else memory
        split = (*x.shape[:-1], self.heads, self.width // self.heads)
        split_memory = (*memory.shape[:-1], self.heads, self.width // self.heads)
        dense = functools.partial(nn.Dense, self.width, dtype=self.dtype)
        query = dense(kernel_init=self.in_init, name="query")(x).reshape(split)
        key = dense(kernel_init=self.in_init, name="key")(memory).reshape(split_memory)
        value = dense(kernel_init=self.in_init, name="value")(memory).reshape(split_memory)
        out = attend(query, key, value, self.kernel, self.causal, mask)
        return dense(kernel_init=self.out_init, name="out")(out.reshape(x.shape))


class Weights(nn.Module):
    """Kernel and bias of a linear layer, named as nn.Dense names them. The caller multiplies with them itself."""

    shape: tuple[int, int]
    init: Initializer

    @nn.compact
    def __call__(self) -> tuple[Float[Array, "n d"], Float[Array, " d"]]:
        return self.param("kernel", self.init, self.shape), self.param("bias", nn.initializers.zeros, self.shape[1:])


class FewQueriesAttention(nn.Module):
    """Attention of few queries over a long, layer-normed memory, with the parameters and the result of `Attention`.

    The memory is not projected to keys and values. Instead each head's queries are multiplied by its key weights, and
    so attend to the memory directly; its value weights then project what was attended to. The sums are the same in
    another order. They need fewer products where there are fewer queries than a head is wide: a fifth for 12 queries,
    heads of width 64 and 1,213 tokens. Scale and shift of the memory's norm are multiplied into the weights, so that
    all layers read one memory.
    """

    width: int
    heads: int
    dtype: jnp.dtype
    init: Initializer = normal_02

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b q d"],
        memory: Float[Array, "b k n"],
        scale: Float[Array, " n"],
        shift: Float[Array, " n"],
    ) -> Float[Array, "b q d"]:
        """`memory` has mean 0 and variance 1; `memory * scale + shift` is what is attended to."""
        dtype, (batch, queries, _), n = self.dtype, x.shape, memory.shape[-1]
        dense = functools.partial(nn.Dense, self.width, dtype=dtype, kernel_init=self.init)
        by_head = (self.heads, self.width // self.heads)

        def folded(name: str) -> tuple[Float[Array, "n h d"], Float[Array, "h d"]]:
            kernel, bias = Weights((n, self.width), self.init, name=name)()
            kernel, bias = kernel * scale[:, None], bias + shift @ kernel
            return kernel.astype(dtype).reshape(n, *by_head), bias.astype(dtype).reshape(by_head)

        # A key's bias (and shift) adds one number to a whole row of scores, which softmax cancels.
        (key, _), (value, value_bias) = folded("key"), folded("value")
        query = dense(name="query")(x).reshape(batch, queries, *by_head) * by_head[1] ** -0.5
        projected = jnp.einsum("bqhd,nhd->bqhn", query, key).reshape(batch, -1, n)
        scores = jnp.einsum("brn,bkn->brk", projected, memory, **summed_in_float32(dtype))
        attended = jnp.einsum("brk,bkn->brn", jax.nn.softmax(scores).astype(dtype), memory)
        out = jnp.einsum("bqhn,nhd->bqhd", attended.reshape(batch, queries, -1, n), value) + value_bias
        return dense(name="out")(out.reshape(x.shape))


class MLP(nn.Module):
    """Two linear layers; the hidden layer is four times as wide."""

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

    `depth` is the number of blocks in the tower. The deeper it is, the smaller the initial weights of what each block
    adds to the residual stream, as in CLIP.
    """

    width: int
    heads: int
    depth: int
    activation: Callable[[jax.Array], jax.Array]
    epsilon: float
    dtype: jnp.dtype
    kernel: str = "cpu"
    causal: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"], mask: Bool[Array, "b n"] | None = None) -> Float[Array, "b n d"]:
        """`mask`: True for the tokens to attend to; None means all."""
        # OpenAI CLIP's initialisation; irrelevant once pretrained weights are loaded.
        out_init = nn.initializers.normal((2 * self.depth * self.width) ** -0.5)
        attention = Attention(
            self.width,
            self.heads,
            self.dtype,
            self.kernel,
            self.causal,
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
        x = x + attention(LayerNorm(self.epsilon, self.dtype, name="ln_1")(x), mask=mask)
        return x + mlp(LayerNorm(self.epsilon, self.dtype, name="ln_2")(x))
