"""Is the evaluation sound? Checked on a sample in every evaluation, with the model and parameters that it evaluates.

A video's embedding must not depend on captions: that would leak the answer into the question. It must not depend on the
other videos of its batch either.
"""

import dataclasses
from typing import Any

import jax
import numpy as np

from save_jax import sharding
from save_jax.config.sizes import precision
from save_jax.data.pipeline import eval_batches
from save_jax.data.records import Clip
from save_jax.evaluation.contract import Evaluator

# Bits of a number that products keep. Without a precision GPUs multiply float32 as TF32, TPUs as bfloat16.
KEPT_BITS = {"cpu": 23, "gpu": 10, "cuda": 10, "rocm": 10, "tpu": 7}
BITS_OF_PRECISION = {"highest": 23, "high": 10}


def tolerance(dtype: str, platform: str, precision: str) -> float:
    """Largest change of a unit vector that rounding explains, where the same sums are made in another order.

    A sum that differs in its last bit may be rounded to the next number that a product keeps. Of those 2.5 units are
    allowed, which is 2e-2 of 7 bits (bfloat16); of 23 bits that would be less than the sums' own error, 1e-4.

    Args:
        dtype: config.model.dtype.
        platform: "cpu", "gpu" or "tpu".
        precision: what config.model.precision came to.
    """
    return max(1e-4, 2.5 * 2.0 ** -(7 if dtype == "bfloat16" else kept_bits(platform, precision)))


def kept_bits(platform: str, precision: str) -> int:
    """Bits of a float32's mantissa that products of this precision keep on "cpu", "gpu" or "tpu"."""
    return 23 if platform == "cpu" else BITS_OF_PRECISION.get(precision, KEPT_BITS.get(platform, 7))


class LeakError(ValueError):
    """An embedding depends on what it must not depend on: no metric of this model means anything."""


def audit(evaluator: Evaluator, params: dict, split: str, embedded: Any) -> dict:
    """Looks at up to one batch of clips with other captions, in another order, and among other clips.

    What the encoder reads of a clip is compared bit for bit with what it reads where the captions are others: on the
    host, so that no device's rounding blurs it. Then the clips are embedded once more, and compared with what the
    evaluation ranked.

    Args:
        embedded: what `evaluator.embed_videos(params, split)` gave.
    Returns:
        {"clips", "captions_changed": largest difference of inputs (0), "order_and_batch": largest difference of unit
        vectors}.
    Raises:
        LeakError if changed captions change an input at all, or if order or batch change a vector beyond rounding.
    """
    config, data = evaluator.config, evaluator.data
    source = data.sources[split]
    count = min(config.batch_size, len(source))
    # Backwards; and the last quarter of the batch is filled with copies of one clip.
    sample = np.unique(np.linspace(0, len(source) - 1, count).astype(int))[::-1][: max(1, 3 * count // 4)]

    def with_other_captions(clip: Clip, number: int) -> Clip:
        other = source[(number + 1) % len(source)]
        return dataclasses.replace(clip, captions=[*other.captions, clip.id], groups=[*other.groups, ""])

    process = {"process": jax.process_index(), "processes": jax.process_count()}
    [plain], [changed] = (
        list(eval_batches(data, config, split, sample, change, **process)) for change in (None, with_other_captions)
    )
    leak = max(_difference(plain[name], changed[name]) for name in evaluator.video_inputs if name in plain)
    if sharding.any_process(leak > 0):
        raise LeakError(f"what the encoder reads changes by {leak:.2g} with the captions: captions leak into videos")
    if data.stored:  # whole splits were read rounded, and chosen clips are read live
        before = jax.tree.map(lambda x: x[::-1], evaluator.embed_videos(params, split, sample[::-1]))
    else:
        before = jax.tree.map(lambda x: x[sample], embedded)
    again = jax.tree.map(lambda x: x[: len(sample)], evaluator.embed(params, [changed]))
    order = _difference(before, again)
    allowed = tolerance(config.model.dtype, sharding.platform(evaluator.mesh), precision(config))
    if order > allowed:
        raise LeakError(f"video embeddings change by {order:.2g} with order and batch, more than {allowed:.0e}")
    return {"clips": len(sample), "captions_changed": leak, "order_and_batch": order}


def _difference(one: object, other: object) -> float:
    """Largest absolute difference of two indexes, masks included."""
    return max(
        0.0 if np.array_equal(a, b) else float(np.abs(a.astype(np.float32) - b.astype(np.float32)).max())
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    )
