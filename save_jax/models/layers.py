"""The parts that every tower is made of: layer norm, attention, MLP and the pre-norm residual block.

Weights are float32; compute runs in `dtype`; layer-norm statistics and softmax run in float32.
"""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

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


def check_attention(kind: str, dtype: jnp.dtype) -> None:
    """Raises ValueError where this machine cannot run attention of this kind ("xla" or "cudnn") and dtype."""
    if kind == "cudnn" and dtype == jnp.float32:
        raise ValueError(
            "config.model.attention=cudnn computes in bfloat16, and config.model.dtype is float32; set "
            "config.model.dtype=bfloat16 or config.model.attention=xla"
        )
    if kind == "cudnn" and jax.default_backend() != "gpu":
        raise ValueError(
            f"config.model.attention=cudnn needs an NVIDIA GPU, and JAX computes on {jax.default_backend()} here; set "
            "config.model.attention=xla"
        )
    capability = getattr(jax.local_devices()[0], "compute_capability", "")
    if dtype != jnp.float32 and capability.replace(".", "").isdigit() and float(capability) < 8:
        raise ValueError(
            f"config.model.dtype=bfloat16 needs an NVIDIA GPU of compute capability 8.0, this has {capability}; set "
            "config.model.dtype=float32"
        )


def summed_in_float32(dtype: jnp.dtype) -> dict:
    """Arguments for a product of `dtype` that is summed in float32, and whose gradients are products of `dtype`, too.

    With the type of the result alone the gradients would be products of float32, which are slow on a GPU.
    """
    precision = jax.lax.DotAlgorithmPreset.BF16_BF16_F32 if dtype == jnp.bfloat16 else None
    return {"precision": precision, "preferred_element_type": jnp.float32}


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


def attend(
    query: Float[Array, "b q h d"],
    key: Float[Array, "b k h d"],
    value: Float[Array, "b k h d"],
    kind: str,
    causal: bool,
    mask: Bool[Array, "b k"] | None = None,
) -> Float[Array, "b q h d"]:
    """Softmax attention, summed in float32: plain matrix products on a CPU, JAX's own function elsewhere.

    On two cores JAX's function takes 1.3 times as long at 50 tokens, and 3 times as long at AST's 1,214 tokens. There
    we compute one head at a time, which stays in the cache.

    Args:
        kind: "xla", or "cudnn" for NVIDIA's kernel where it fits; see `check_attention`.
        mask: True for the keys to attend to; None means all. A sample without any gets finite numbers that mean
            nothing.
    """
    dtype, size = query.dtype, query.shape[-1]
    if jax.default_backend() != "cpu":
        # What cuDNN requires on every GPU that has its kernels. It takes a mask as a bias: one row for every query, and
        # even lengths.
        fits = dtype in (jnp.bfloat16, jnp.float16) and size % 8 == 0 and size <= 128
        if mask is not None:
            fits = fits and query.shape[1] % 2 == 0 and key.shape[1] % 2 == 0
            mask = jnp.broadcast_to(mask[:, None, None, :], (len(mask), 1, query.shape[1], key.shape[1]))
        return jax.nn.dot_product_attention(
            query,
            key,
            value,
            mask=mask,
            is_causal=causal,
            implementation="cudnn" if fits and kind == "cudnn" else "xla",
        )

    def rows(qkv: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        q, k, v = qkv
        scores = size**-0.5 * jnp.matmul(q, k.swapaxes(-1, -2), **summed_in_float32(dtype))
        if causal:
            scores = jnp.where(jnp.tri(*scores.shape[-2:], dtype=bool), scores, -jnp.inf)
        if mask is not None:  # not -inf: a row with nothing else would become NaN
            scores = jnp.where(mask[:, None, :], scores, -1e30)
        return jax.nn.softmax(scores).astype(dtype) @ v

    heads_first = (query.transpose(2, 0, 1, 3), key.transpose(2, 0, 1, 3), value.transpose(2, 0, 1, 3))
    long = query.shape[1] * key.shape[1] > 1 << 18
    return (jax.lax.map(rows, heads_first) if long else rows(heads_first)).transpose(1, 2, 0, 3)


class Attention(nn.Module):
    """Multi-head attention of `x` over `memory`, or over `x` itself. `mask`: what is attended to, see `attend`."""

    width: int
    heads: int
    dtype: jnp.dtype
    kind: str = "xla"  # or "cudnn", see `attend`
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
        out = attend(query, key, value, self.kind, self.causal, mask)
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
    attention_kind: str = "xla"
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
            self.attention_kind,
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
