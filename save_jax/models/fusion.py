"""How picture takes from sound and speech: the audio resampler and the gated fusion transformer (AVIGATE §3.2–3.3)."""

import dataclasses

import flax.linen as nn
import flax.struct
import jax.numpy as jnp
from jaxtyping import Array, Float

from save_jax.models.layers import MLP, Attention, LayerNorm, normal_02, quick_gelu

EPSILON = 1e-12  # the reference's own LayerNorm, in resampler and fusion


@dataclasses.dataclass(frozen=True)
class FusionSizes:
    """Sizes of resampler and fusion; their width is the joint width."""

    width: int
    head_dim: int
    queries: int  # tokens that a sound track is resampled to
    resampler_layers: int
    fusion_layers: int


@flax.struct.dataclass
class Fused:
    """Frames after fusion, and how far each layer opened its gates (scalars in (-1, 1), one per video)."""

    tokens: Float[Array, "b t d"]
    attention_gates: Float[Array, "b layers"]
    mlp_gates: Float[Array, "b layers"]


class ResamplerLayer(nn.Module):
    sizes: FusionSizes
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "b q d"], memory: Float[Array, "b m d"]) -> Float[Array, "b q d"]:
        width, heads = self.sizes.width, self.sizes.width // self.sizes.head_dim
        ln_3 = LayerNorm(EPSILON, self.dtype, name="ln_3")  # one norm for both sides, as in the reference
        x = x + Attention(width, heads, self.dtype, name="attention")(LayerNorm(EPSILON, self.dtype, name="ln_1")(x))
        x = x + Attention(width, heads, self.dtype, name="cross_attention")(ln_3(x), ln_3(memory))
        return x + MLP(width, quick_gelu, self.dtype, name="mlp")(LayerNorm(EPSILON, self.dtype, name="ln_2")(x))


class Resampler(nn.Module):
    """Any number of audio tokens → `queries` tokens, asked for by learned queries."""

    sizes: FusionSizes
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, audio: Float[Array, "b m d"]) -> Float[Array, "b q d"]:
        shape = (self.sizes.queries, self.sizes.width)
        queries = self.param("query_tokens", nn.initializers.orthogonal(), shape)
        queries = queries + self.param("query_position_embedding", normal_02, shape)
        x = jnp.broadcast_to(queries.astype(self.dtype), (audio.shape[0], *shape))
        for layer in range(self.sizes.resampler_layers):
            x = ResamplerLayer(self.sizes, self.dtype, name=f"block_{layer}")(x, audio)
        return x


class Gate(nn.Module):
    """One scalar in (-1, 1) per sample from the two sides' means. `tanh(W2·QuickGELU(W1·[x̄ ; m̄]))`, no biases."""

    width: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, means: Float[Array, "b dd"]) -> Float[Array, "b 1"]:
        hidden = nn.Dense(self.width // 2, use_bias=False, kernel_init=normal_02, dtype=self.dtype, name="fc")(means)
        gate = nn.Dense(1, use_bias=False, kernel_init=normal_02, dtype=self.dtype, name="proj")(quick_gelu(hidden))
        return jnp.tanh(gate)


class GatedLayer(nn.Module):
    """Gated cross-attention and gated MLP, then an ordinary pre-norm block. Returns (x, attention gate, MLP gate)."""

    sizes: FusionSizes
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, x: Float[Array, "b t d"], memory: Float[Array, "b m d"]
    ) -> tuple[Float[Array, "b t d"], Float[Array, "b 1"], Float[Array, "b 1"]]:
        width, heads = self.sizes.width, self.sizes.width // self.sizes.head_dim

        def norm(name: str, x: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
            return LayerNorm(EPSILON, self.dtype, name=name)(x)

        means = jnp.concatenate([x.mean(axis=1), memory.mean(axis=1)], axis=-1)  # both gates read the layer's input
        attention_gate = Gate(width, self.dtype, name="attention_gate")(means)
        mlp_gate = Gate(width, self.dtype, name="mlp_gate")(means)
        crossed = Attention(width, heads, self.dtype, name="cross_attention")(norm("ln_3", x), memory)
        x = x + attention_gate[:, None] * crossed
        gated = MLP(width, quick_gelu, self.dtype, use_bias=False, name="gated_mlp")(norm("ln_4", x))
        x = x + mlp_gate[:, None] * gated
        x = x + Attention(width, heads, self.dtype, name="attention")(norm("ln_1", x))
        x = x + MLP(width, quick_gelu, self.dtype, name="mlp")(norm("ln_2", x))
        return x, attention_gate, mlp_gate


class GatedFusion(nn.Module):
    """Frames look at a memory (sound or speech) and let in as much of it as their gates allow.

    All means and attentions run over padded frames and padded words too, as in the reference. Its additive frame mask
    adds one constant to whole softmax rows, which changes nothing but rounding, and is left out.
    """

    sizes: FusionSizes
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "b t d"], memory: Float[Array, "b m d"]) -> Fused:
        attention_gates, mlp_gates = [], []
        for layer in range(self.sizes.fusion_layers):
            x, attention_gate, mlp_gate = GatedLayer(self.sizes, self.dtype, name=f"block_{layer}")(x, memory)
            attention_gates.append(attention_gate)
            mlp_gates.append(mlp_gate)
        return Fused(x, jnp.concatenate(attention_gates, axis=1), jnp.concatenate(mlp_gates, axis=1))
