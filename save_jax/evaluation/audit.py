"""Is the evaluation sound? Checked on a sample in every evaluation, with the model and parameters that it evaluates.

A video's embedding must not depend on captions: that would leak the answer into the question. It must not depend on the
other videos of its batch either.
"""

import dataclasses

import jax
import numpy as np

from save_jax.data.records import Clip
from save_jax.evaluation.contract import Evaluator

# Bits of a number that products keep, where neither config.model.dtype nor JAX's precision says more: GPUs multiply
# float32 as TF32, TPUs as bfloat16.
KEPT_BITS = {"cpu": 23, "gpu": 10, "cuda": 10, "rocm": 10, "tpu": 7}
BITS_OF_PRECISION = {"highest": 23, "float32": 23, "tensorfloat32": 10, "bfloat16": 7}


def tolerance(dtype: str, platform: str, precision: str | None = None) -> float:
    """Largest change of a unit vector that rounding explains, where the same sums are made in another order.

    A sum that differs in its last bit may be rounded to the next number that a product keeps. Of those 2.5 units are
    allowed, which is 2e-2 of 7 bits (bfloat16); of 23 bits that would be less than the sums' own error, 1e-4.

    Args:
        dtype: config.model.dtype.
        platform: "cpu", "gpu" or "tpu".
        precision: of JAX's setting jax_default_matmul_precision.
    """
    known = BITS_OF_PRECISION.get(precision or "", KEPT_BITS.get(platform, 7))
    return max(1e-4, 2.5 * 2.0 ** -(7 if dtype == "bfloat16" else known))


class LeakError(ValueError):
    """An embedding depends on what it must not depend on: no metric of this model means anything."""


def audit(evaluator: Evaluator, params: dict, split: str) -> dict:
    """Embeds up to one batch of clips as they are, with other captions, in another order, and in another batch.

    Returns:
        {"clips", "captions_changed": largest difference (0 on a CPU), "order_and_batch": largest difference}, of unit
        vectors.
    Raises:
        LeakError if changed captions, order or batch change a video beyond rounding. A CPU repeats itself to the bit,
        so there changed captions must change nothing; kernels of other devices may add in another order each time.
    """
    source = evaluator.data.sources[split]
    count = min(evaluator.config.batch_size, len(source))
    sample = np.unique(np.linspace(0, len(source) - 1, count).astype(int))

    def with_other_captions(clip: Clip, number: int) -> Clip:
        other = source[(number + 1) % len(source)]
        return dataclasses.replace(clip, captions=[*other.captions, clip.id], groups=[*other.groups, ""])

    plain = evaluator.embed_videos(params, split, sample)
    changed = evaluator.embed_videos(params, split, sample, with_other_captions)
    # Reversed; and a part of the clips in a batch that is padded with copies of one clip.
    part = sample[: max(1, len(sample) // 4)]
    moved = evaluator.embed_videos(params, split, sample[::-1])
    apart = evaluator.embed_videos(params, split, part)
    leak = _difference(plain, changed)
    order = max(
        _difference(plain, jax.tree.map(lambda x: x[::-1], moved)),
        _difference(jax.tree.map(lambda x: x[: len(part)], plain), apart),
    )
    platform = _platform(evaluator)
    allowed = tolerance(evaluator.config.model.dtype, platform, jax.config.values["jax_default_matmul_precision"])
    if leak > (0 if platform == "cpu" else allowed):
        raise LeakError(f"video embeddings change by {leak:.2g} when captions are exchanged: captions leak into videos")
    if order > allowed:
        raise LeakError(f"video embeddings change by {order:.2g} with order and batch, more than {allowed:.0e}")
    return {"clips": len(sample), "captions_changed": leak, "order_and_batch": order}


def _platform(evaluator: Evaluator) -> str:
    return next(iter(evaluator.mesh.devices.flat)).platform


def _difference(one: object, other: object) -> float:
    """Largest absolute difference of two indexes, masks included."""
    return max(
        float(np.abs(a.astype(np.float32) - b.astype(np.float32)).max())
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    )
