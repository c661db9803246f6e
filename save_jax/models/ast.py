"""Audio Spectrogram Transformer: a distilled ViT over a log-mel picture. arXiv 2104.01778."""

import functools

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from save_jax.config.sizes import AstSizes
from save_jax.models.layers import Block, LayerNorm, PatchEmbedding, exact_gelu, remat


class AudioTower(nn.Module):
    """Log-mel pictures → tokens: the mean of class and distillation token, then the patches, one mel row after another.

    In SAVE the trunk is frozen, and its output may be stored. The last norm is trained.
    """

    sizes: AstSizes
    dtype: jnp.dtype
    remat: str = "none"
    kernel: str = "cpu"

    def setup(self):
        self.norm = LayerNorm(self.sizes.epsilon, self.dtype)

    def __call__(self, fbank: Float[Array, "b time mel"]) -> Float[Array, "b m w"]:
        return self.norm(self.trunk(fbank))

    @nn.compact
    def trunk(self, fbank: Float[Array, "b time mel"]) -> Float[Array, "b m w"]:
        s, init = self.sizes, nn.initializers.truncated_normal(0.02)
        picture = jnp.swapaxes(fbank, 1, 2)[..., None]
        patches = PatchEmbedding(s.width, s.patch_size, s.stride, True, self.dtype, name="patch_embedding")(picture)
        extra = [self.param(name, init, (1, 1, s.width)) for name in ("class_token", "distillation_token")]
        extra = [jnp.broadcast_to(token.astype(self.dtype), (patches.shape[0], 1, s.width)) for token in extra]
        position = self.param("position_embedding", init, (2 + patches.shape[1], s.width))
        x = jnp.concatenate([*extra, patches], axis=1) + position.astype(self.dtype)
        block = functools.partial(
            remat(Block, self.remat), s.width, s.heads, s.layers, exact_gelu, s.epsilon, self.dtype, self.kernel
        )
        for layer in range(s.layers):
            x = block(name=f"block_{layer}")(x)
        return jnp.concatenate([x[:, :2].mean(axis=1, keepdims=True), x[:, 2:]], axis=1)
