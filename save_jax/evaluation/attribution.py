"""Why a video ranks where it does for a query: its score without each branch, and without each input.

Without a branch: a video's fused tokens are a weighted sum of three terms: the frames themselves (vision), the frames
after attending to the sound (audio), and the frames after attending to the transcript (speech). A branch's contribution
to a pair is the score minus the score without the branch's term. Contributions do not add up to the score, nor to a
part of it: tokens are normalised after the sum, and the score takes a soft maximum over frames. They compare branches
within one pair, and one branch between the videos of one query. The terms of audio and speech are made of frames, too.
So they contribute even for a silent clip.

Without an input: the score minus the score of the same clip without its sound track, or without its transcript. It is
exactly 0 for a clip that has none.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool
from ml_collections import ConfigDict

from save_jax import sharding
from save_jax.config import branches, model_sizes
from save_jax.evaluation import breakdown
from save_jax.evaluation.retrieval import RetrievalEvaluator, VideoTokens
from save_jax.models import similarity
from save_jax.models.apply import apply
from save_jax.models.retrieval import Retrieval, VideoEmbedding, make_model


@dataclasses.dataclass
class Explanation:
    """Rows are queries, columns are the given videos. Keys are the model's branches: vision, audio, speech."""

    scores: np.ndarray  # float32 [queries, videos]
    branches: dict[str, np.ndarray]  # score minus the score without the branch's term; empty with a single branch
    inputs: dict[str, np.ndarray]  # score minus the score without the input; audio and speech alone
    gates: dict[str, np.ndarray]  # mean absolute attention gate over the layers, float32 [videos]


def terms(video: VideoEmbedding, weights: dict[str, float]) -> dict[str, Array]:
    """What the fused tokens are the sum of: branch → its weighted tokens, float [b, t, d]."""
    fused = {"audio": video.audio_fused, "speech": video.speech_fused}
    tokens = {"vision": video.visual} | {name: x.tokens for name, x in fused.items() if x is not None}
    return {name: weights[name] * x for name, x in tokens.items()}


def without_each(
    video: VideoEmbedding, weights: dict[str, float], mask: Bool[Array, "b t"]
) -> dict[str, similarity.VideoIndex]:
    """The index of the videos with all branches ("all"), and without each one.

    Args:
        video: from Retrieval.encode_video.
        weights: of the branches in the fused tokens.
        mask: real frames.
    """
    parts = terms(video, weights)
    sums = {"all": sum(parts.values())}
    if len(parts) > 1:  # without its only term nothing is left to compare with
        sums |= {omitted: sum(x for name, x in parts.items() if name != omitted) for omitted in parts}
    return {name: similarity.index(jnp.asarray(x), mask) for name, x in sums.items()}


def make_explainer(config: ConfigDict, mesh: Mesh) -> Callable[[dict, VideoTokens], tuple[dict, dict]]:
    """The jitted (params, tokens) → (`without_each`, mean absolute attention gates [b] by branch)."""
    sizes = model_sizes(config)
    model, weights = make_model(config, mesh), dict(zip(sizes.branches, sizes.weights, strict=True))

    def explain(params: dict, tokens: Any) -> tuple[dict, dict]:  # VideoTokens of JAX arrays
        video = apply(Retrieval.fuse, model, params, tokens.visual, tokens.audio, tokens.speech)
        gates = {
            name: abs(fused.attention_gates).mean(axis=1)
            for name, fused in (("audio", video.audio_fused), ("speech", video.speech_fused))
            if fused is not None
        }
        return without_each(video, weights, tokens.mask), gates

    return jax.jit(explain, in_shardings=(None, sharding.by_sample(mesh)), out_shardings=sharding.replicated(mesh))


def explain(
    evaluator: RetrievalEvaluator, params: dict, split: str, texts: np.ndarray, numbers: Sequence[int]
) -> Explanation:
    """Explains every given query with every given video.

    Args:
        texts: embedded queries, float [queries, d].
        numbers: of the videos in the split.
    """
    config = evaluator.config
    tokens = evaluator.tokens(params, split, numbers)
    explainer = make_explainer(config, evaluator.mesh)
    indexes, gates = evaluator.by_batch(functools.partial(explainer, params), tokens)
    scores = {name: evaluator.score(params, texts, index) for name, index in indexes.items()}
    complete = scores.pop("all")

    def scored(tokens: VideoTokens) -> np.ndarray:
        # The same compiled fusion with and without an input, so that equal inputs give a difference of exactly 0.
        return evaluator.score(params, texts, evaluator.fuse(params, tokens)[0])

    inputs, exchanged = {}, breakdown.exchanges(evaluator.data.info(split), branches(config))
    if exchanged:
        as_it_is, nothing = scored(tokens), evaluator.nothing(params)
        for name in ("no sound", "no speech"):
            for branch, rows in exchanged.get(name, {}).items():
                taken = np.where(rows[np.asarray(numbers)] < 0, breakdown.NOTHING, np.arange(len(numbers)))
                inputs[branch] = as_it_is - scored(breakdown.exchange(tokens, nothing, {branch: taken}))
    return Explanation(complete, {name: complete - less for name, less in scores.items()}, inputs, gates)
