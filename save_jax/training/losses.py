"""Training losses over the global batch: contrastive with adaptive margin (AVIGATE), and soft-ALBEF (SAVE).

Everything is computed in float32 on the global batch. On several devices the compiler adds the communication.
"""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from save_jax.models.similarity import EXACT, masked_mean, unit

TEACHER_SCALE = 5.0  # the reference's factor on student and teacher similarities
ALBEF_KINDS = ("none", "pearson", "hard", "mse", "huber")


def cosines(a: Float[Array, "i d"], b: Float[Array, "j d"]) -> Float[Array, "i j"]:
    """Cosine of every row of `a` with every row of `b`."""
    return jnp.einsum("id,jd->ij", unit(a), unit(b), precision=EXACT)


def adaptive_margin(
    texts: Float[Array, "b d"],
    visual: Float[Array, "b t d"],
    mask: Bool[Array, "b t"],
    beta: float,
    delta: float,
) -> Float[Array, "b b"]:
    """`min(δ, β·(1 − ½(⟨t̂_i,t̂_j⟩ + ⟨v̄_i,v̄_j⟩)))`, zero for matching pairs.

    The more two samples differ, the further they are pushed apart. No gradient flows through the margin.

    Args:
        texts: text embeddings.
        visual: visual tokens with position, before fusion.
        mask: real frames.
        beta, delta: β and δ, the factor and the upper limit of the margin.
    """
    videos = masked_mean(unit(visual), mask)
    alike = 0.5 * (cosines(texts, texts) + cosines(videos, videos))
    margin = jnp.minimum(delta, beta * (1 - alike)) * (1 - jnp.eye(texts.shape[0]))
    return jax.lax.stop_gradient(margin)


def contrastive(logits: Float[Array, "b b"]) -> Float[Array, ""]:
    """Mean of text→video and video→text cross-entropy, matching pairs on the diagonal."""
    labels = jnp.arange(logits.shape[0])
    cross_entropy = optax.softmax_cross_entropy_with_integer_labels
    return 0.5 * (cross_entropy(logits, labels).mean() + cross_entropy(logits.T, labels).mean())


def audio_visual_similarity(visual: Float[Array, "b t d"], audio: Float[Array, "b q d"]) -> Float[Array, "b b"]:
    """Cosine of every video (row) with every sound (column): unit tokens, plain mean, unit again."""
    return cosines(unit(visual).mean(axis=1), unit(audio).mean(axis=1))


def _distributions(logits: Float[Array, "b b"], valid: Bool[Array, " b"]) -> Float[Array, "b b"]:
    """Row softmax restricted to valid columns, zero elsewhere."""
    return jax.nn.softmax(jnp.where(valid[None], logits, -1e30), axis=-1) * valid[None]


def _pearson_distance(p: Float[Array, "b b"], q: Float[Array, "b b"], valid: Bool[Array, " b"]) -> Float[Array, " b"]:
    """`1 − correlation` of each pair of rows, over the valid columns."""
    count = valid.sum()
    p, q = ((x - x.sum(axis=-1, keepdims=True) / jnp.maximum(count, 1)) * valid[None] for x in (p, q))
    return 1 - jnp.sum(unit(p) * unit(q), axis=-1)


def row_distances(
    student: Float[Array, "b b"],
    teacher: Float[Array, "b b"],
    valid: Bool[Array, " b"],
    kind: str = "pearson",
) -> Float[Array, " b"]:
    """Distance of each row's distribution over the valid columns from the teacher's. Only valid rows mean something.

    Arguments: as in `soft_albef`.
    """
    p, q = _distributions(TEACHER_SCALE * student, valid), _distributions(TEACHER_SCALE * teacher, valid)
    if kind == "pearson":
        return _pearson_distance(p, q, valid)
    if kind == "mse":
        return jnp.sum((p - q) ** 2, axis=-1)
    if kind == "huber":
        return jnp.sum(optax.losses.huber_loss(p, q), axis=-1)
    return -jnp.log(jnp.diagonal(p) + (~valid))


def soft_albef(
    student: Float[Array, "b b"],
    teacher: Float[Array, "b b"],
    valid: Bool[Array, " b"],
    kind: str = "pearson",
) -> Float[Array, ""]:
    """Early alignment of video and audio: the student's similarities should be distributed like the teacher's.

    Args:
        student: cosine of every video (row) with every sound (column), from `audio_visual_similarity`.
        teacher: the same for the teacher's vectors.
        valid: samples with sound and teacher vectors. With fewer than two of them the loss is 0.
        kind: `pearson` (the paper's choice), or its ablations `mse`, `huber` (between the same distributions, summed
            over a row) and `hard` (contrastive with one-hot targets, no teacher).
    Returns:
        The mean over valid rows plus the mean over valid columns.
    """

    def one_way(student: Float[Array, "b b"], teacher: Float[Array, "b b"]) -> Float[Array, ""]:
        return jnp.sum(row_distances(student, teacher, valid, kind) * valid) / jnp.maximum(valid.sum(), 1)

    # Invalid rows and columns become zeros first. Their distances are then constants without a gradient.
    both = valid[:, None] & valid[None]
    student, teacher = jnp.where(both, student, 0.0), jnp.where(both, teacher, 0.0)
    total = one_way(student, teacher) + one_way(student.T, teacher.T)
    return jnp.where(valid.sum() >= 2, total, 0.0)


def info_nce(
    a: Float[Array, "b d"], b: Float[Array, "b d"], logit_scale: Float[Array, ""], valid: Bool[Array, " b"]
) -> Float[Array, ""]:
    """Symmetric InfoNCE of cosines times exp(logit_scale), over the valid pairs; 0 if there are none.

    Invalid samples are neither queries nor candidates.
    """
    logits = jnp.where(valid[:, None] & valid[None], jnp.exp(logit_scale) * cosines(a, b), -1e30)
    labels, cross_entropy = jnp.arange(len(a)), optax.softmax_cross_entropy_with_integer_labels
    both = 0.5 * (cross_entropy(logits, labels) + cross_entropy(logits.T, labels))
    return mean_of_valid(both, valid)


def mean_of_valid(x: Float[Array, " b"], valid: Bool[Array, " b"]) -> Float[Array, ""]:
    """Mean over valid entries; 0, with a zero gradient, if there are none."""
    return jnp.where(valid, x, 0).sum() / jnp.maximum(valid.sum(), 1)
