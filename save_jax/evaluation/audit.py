"""Is the evaluation sound? Checked on a sample in every evaluation, with the model and parameters that it evaluates.

A video's embedding must not depend on captions: that would leak the answer into the question. It must not depend on the
other videos of its batch either.
"""

import dataclasses

import jax
import numpy as np

from save_jax.data.records import Clip
from save_jax.evaluation.contract import Evaluator

# For unit vectors of the same clip at another place of a batch. In bfloat16 one rounding is 2^-8 of a value.
TOLERANCE = {"float32": 1e-4, "bfloat16": 2e-2}


class LeakError(ValueError):
    """An embedding depends on what it must not depend on: no metric of this model means anything."""


def audit(evaluator: Evaluator, params: dict, split: str) -> dict:
    """Embeds up to one batch of clips as they are, with other captions, in another order, and in another batch.

    Returns:
        {"clips", "captions_changed": largest difference (0), "order_and_batch": largest difference}, of unit vectors.
    Raises:
        LeakError if changed captions change a video at all, or if order or batch change one beyond rounding.
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
    if leak:
        raise LeakError(f"video embeddings change by {leak:.2g} when captions are exchanged: captions leak into videos")
    allowed = TOLERANCE[evaluator.config.model.dtype]
    if order > allowed:
        raise LeakError(f"video embeddings change by {order:.2g} with order and batch, more than {allowed:.0e}")
    return {"clips": len(sample), "captions_changed": leak, "order_and_batch": order}


def _difference(one: object, other: object) -> float:
    """Largest absolute difference of two indexes, masks included."""
    return max(
        float(np.abs(a.astype(np.float32) - b.astype(np.float32)).max())
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    )
