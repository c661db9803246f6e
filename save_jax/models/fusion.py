"""How audio and speech enter the video tokens: the audio resampler and the gated fusion (AVIGATE §3.2–3.3)."""

import functools

import flax.linen as nn
import flax.struct
import jax.numpy as jnp
from jaxtyping import Array, Float

from save_jax.config.sizes import FusionSizes
from save_jax.models.layers import MLP, Attention, FewQueriesAttention, Initializer, LayerNorm, quick_gelu, remat

EPSILON = 1e-12  # the reference's own LayerNorm, in resampler and fusion


@flax.struct.dataclass
class Fused:
    """Frames after fusion, and the gates of each layer (scalars in (-1, 1), one per video)."""

    tokens: Float[Array, "b t d"]
    attention_gates: Float[Array, "b layers"]
    mlp_gates: Float[Array, "b layers"]


def _init(sizes: FusionSizes) -> Initializer:
    return nn.initializers.normal(sizes.init_std)


def _attention(sizes: FusionSizes, dtype: jnp.dtype, kernel: str, name: str) -> Attention:
    heads = sizes.width // sizes.head_dim
    return Attention(sizes.width, heads, dtype, kernel, in_init=_init(sizes), out_init=_init(sizes), name=name)


def _mlp(sizes: FusionSizes, dtype: jnp.dtype, name: str, use_bias: bool = True) -> MLP:
    return MLP(sizes.width, quick_gelu, dtype, use_bias, in_init=_init(sizes), out_init=_init(sizes), name=name)


class ResamplerLayer(nn.Module):
    """Self-attention of the queries, their cross-attention to the audio tokens, and an MLP."""

    sizes: FusionSizes
    dtype: jnp.dtype
    kernel: str = "cpu"

    @nn.compact
    def __call__(self, x: Float[Array, "b q d"], memory: Float[Array, "b m d"]) -> Float[Array, "b q d"]:
        """`memory` comes normalised, but without the scale and shift of this layer's ln_3."""
        sizes, dtype, kernel = self.sizes, self.dtype, self.kernel
        x = x + _attention(sizes, dtype, kernel, "attention")(LayerNorm(EPSILON, dtype, name="ln_1")(x))
        ln_3 = LayerNorm(EPSILON, dtype, name="ln_3")  # one norm for both sides, as in the reference
        queries = ln_3(x)
        scale, shift = (ln_3.get_variable("params", name) for name in ("scale", "bias"))
        heads = sizes.width // sizes.head_dim
        cross_attention = FewQueriesAttention(sizes.width, heads, dtype, _init(sizes), name="cross_attention")
        x = x + cross_attention(queries, memory, scale, shift)
        return x + _mlp(sizes, dtype, "mlp")(LayerNorm(EPSILON, dtype, name="ln_2")(x))


class Resampler(nn.Module):
    """Any number of audio tokens → a fixed number of tokens, by cross-attention of learned queries."""

    sizes: FusionSizes
    dtype: jnp.dtype
    remat: str = "none"
    kernel: str = "cpu"

    @nn.compact
    def __call__(self, audio: Float[Array, "b m d"]) -> Float[Array, "b q d"]:
        shape = (self.sizes.queries, self.sizes.width)
        queries = self.param("query_tokens", nn.initializers.orthogonal(), shape)
        queries = queries + self.param("query_position_embedding", _init(self.sizes), shape)
        x = jnp.broadcast_to(queries, (audio.shape[0], *shape))
        memory = LayerNorm(EPSILON, self.dtype, scale_and_shift=False)(audio)
        layers = functools.partial(remat(ResamplerLayer, self.remat), self.sizes, self.dtype, self.kernel)
        for layer in range(self.sizes.resampler_layers):
            x = layers(name=f"block_{layer}")(x, memory)
        return x


class Gate(nn.Module):
    """One scalar in (-1, 1) per sample, from the means of both sides: `tanh(W2·QuickGELU(W1·[x̄ ; m̄]))`, no biases."""

    sizes: FusionSizes
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, means: Float[Array, "b dd"]) -> Float[Array, "b 1"]:
        dense = functools.partial(nn.Dense, use_bias=False, kernel_init=_init(self.sizes), dtype=self.dtype)
        hidden = dense(self.sizes.width // 2, name="fc")(means)
        return jnp.tanh(dense(1, name="proj")(quick_gelu(hidden)))


class GatedLayer(nn.Module):
    """Gated cross-attention and gated MLP, then an ordinary pre-norm block. Returns (x, attention gate, MLP gate)."""

    sizes: FusionSizes
    dtype: jnp.dtype
    kernel: str = "cpu"

    @nn.compact
    def __call__(
        self, x: Float[Array, "b t d"], memory: Float[Array, "b m d"]
    ) -> tuple[Float[Array, "b t d"], Float[Array, "b 1"], Float[Array, "b 1"]]:
        sizes, dtype, kernel = self.sizes, self.dtype, self.kernel

        def norm(name: str, x: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
            return LayerNorm(EPSILON, dtype, name=name)(x)

        means = jnp.concatenate([x.mean(axis=1), memory.mean(axis=1)], axis=-1)  # both gates read the layer's input
        attention_gate = Gate(sizes, dtype, name="attention_gate")(means)
        mlp_gate = Gate(sizes, dtype, name="mlp_gate")(means)
        crossed = _attention(sizes, dtype, kernel, "cross_attention")(norm("ln_3", x), memory)
        x = x + attention_gate[:, None] * crossed
        gated = _mlp(sizes, dtype, "gated_mlp", use_bias=False)(norm("ln_4", x))
        x = x + mlp_gate[:, None] * gated
        x = x + _attention(sizes, dtype, kernel, "attention")(norm("ln_1", x))
        x = x + _mlp(sizes, dtype, "mlp")(norm("ln_2", x))
        return x, attention_gate, mlp_gate


class GatedFusion(nn.Module):
    """Frames attend to a memory (audio or speech tokens); gates scale what they take from it.

    Means and attention include padded frames and padded words, as in the reference. The reference also has an additive
    frame mask. It adds one constant to whole softmax rows, which changes nothing but rounding, so it is left out.
    """

    sizes: FusionSizes
    dtype: jnp.dtype
    remat: str = "none"
    kernel: str = "cpu"

    @nn.compact
    def __call__(self, x: Float[Array, "b t d"], memory: Float[Array, "b m d"]) -> Fused:
        layers = functools.partial(remat(GatedLayer, self.remat), self.sizes, self.dtype, self.kernel)
        attention_gates, mlp_gates = [], []
        for layer in range(self.sizes.fusion_layers):
            x, attention_gate, mlp_gate = layers(name=f"block_{layer}")(x, memory)
            attention_gates.append(attention_gate)
            mlp_gates.append(mlp_gate)
        return Fused(x, jnp.concatenate(attention_gates, axis=1), jnp.concatenate(mlp_gates, axis=1))
