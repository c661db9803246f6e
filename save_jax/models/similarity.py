"""The one score of texts and videos, used unchanged by the loss, by evaluation and by search (SAVE §3.4, AVIGATE §3.4).

`S = ½·τ·⟨t̂, ḡ⟩ + ½·(1/λ)·log Σ_{valid i} exp(λ·τ·⟨t̂, f̂_i⟩)`: the mean of a video's unit frames, and a soft maximum over
them. The log-sum-exp is the stable one; the reference exponentiates directly and overflows for large τ.
"""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

# Score of a padded frame. It is below every real score, so that a video without any real frame ranks last. It is
# finite, so that sums and gradients do not become NaN.
ABSENT = -1e30
AnyArray = jax.Array | np.ndarray
# These products are small and are multiplied by up to 100. The lower precision that GPUs and TPUs use by default would
# change ranks.
EXACT = jax.lax.Precision.HIGHEST


@flax.struct.dataclass
class VideoIndex:
    """What the score needs of a video: unit frame vectors, their unit mean, and which frames are real."""

    frames: Float[AnyArray, "v t d"]
    mean: Float[AnyArray, "v d"]
    mask: Bool[AnyArray, "v t"]


def unit(x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
    """`x / |x|` in float32; the zero vector stays zero, with a zero gradient."""
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(x * x, axis=-1, keepdims=True), 1e-24))


def masked_mean(x: Float[Array, "b t d"], mask: Bool[Array, "b t"]) -> Float[Array, "b d"]:
    """Mean over the positions where the mask is True; zero where it never is."""
    weight = mask.astype(x.dtype)
    total = jnp.einsum("btd,bt->bd", x, weight, precision=EXACT)
    return total / jnp.maximum(weight.sum(axis=1), 1)[:, None]


def index(tokens: Float[Array, "v t d"], mask: Bool[Array, "v t"]) -> VideoIndex:
    """Video tokens → the index of the videos. It depends on the videos alone, so it is computed once, offline."""
    frames = unit(tokens)
    return VideoIndex(frames=frames, mean=unit(masked_mean(frames, mask)), mask=mask)


def score(
    texts: Float[Array, "q d"],
    videos: VideoIndex,
    logit_scale: Float[Array, ""],
    temperature: float = 1.0,
    grains: str = "both",
) -> Float[Array, "q v"]:
    """Scores every text against every video, in float32.

    Args:
        texts: text embeddings, normalised here.
        videos: from `index`.
        logit_scale: log of the scale τ.
        temperature: λ of the soft maximum over frames.
        grains: "both", or "global" for τ·⟨t̂, ḡ⟩ alone: one vector per video, the papers' ablation.
    """
    # Videos come first: a few queries against many videos then read the videos once. The soft maximum runs over an axis
    # that is not the last, so it is vectorised over the queries.
    texts, scale = unit(texts), jnp.exp(logit_scale)
    whole = scale * jnp.einsum("vd,qd->vq", videos.mean, texts, precision=EXACT)
    if grains == "global":
        return jnp.where(jnp.any(videos.mask, axis=1)[:, None], whole, ABSENT).T
    by_frame = temperature * scale * jnp.einsum("vtd,qd->vtq", videos.frames, texts, precision=EXACT)
    by_frame = jnp.where(videos.mask[:, :, None], by_frame, ABSENT)
    return (0.5 * (whole + jax.nn.logsumexp(by_frame, axis=1) / temperature)).T
