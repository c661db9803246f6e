"""A model as an index needs it: windows → vectors of each sense, sentences → vectors, and the score of both.

The frames' vectors are a sum over the senses that the model has (picture, sound, speech). An index keeps the terms of
that sum, so that a hit can be explained, and a sense be left out, without reading the file again.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from save_jax import sharding
from save_jax.config import branches, model_sizes
from save_jax.evaluation import attribution
from save_jax.inference.model import Model
from save_jax.models import similarity, trees
from save_jax.models.apply import apply
from save_jax.models.retrieval import Retrieval
from save_jax.search.windows import Cut, Window

_FEWEST = 7  # windows are scored 2^7 or more at a time: few sizes, few programs to compile before the first answer


@dataclasses.dataclass(frozen=True)
class Embedded:
    """Windows as rows."""

    frames: np.ndarray  # float16 [n, t, d], unit: what is scored
    terms: np.ndarray  # float16 [n, senses, t, d]: what they are the sum of
    mean: np.ndarray  # float32 [n, d], unit


class Embedder:
    """A trained model, or CLIP's towers alone. `name`: what the user calls it."""

    def __init__(self, model: Model, name: str):
        self.model, self.name = model, name
        self.senses = branches(model.config)
        self.size: int = model.config.model.embed_dim
        self.frames: int = model.config.data.max_frames
        self.image_size: int = model.config.model.image_size
        self.words: int = model.config.data.max_words

    @functools.cached_property
    def digest(self) -> str:
        """Of the parameters: rows of two models are never compared."""
        return trees.digest(jax.device_get(self.model.params))

    @property
    def cut(self) -> Cut:
        """Windows as long as what the model was trained on; each begins in the middle of the one before."""
        return Cut(float(self.frames), self.frames / 2)

    @property
    def batch(self) -> int:
        """Windows embedded at a time."""
        return self.model.batch

    def windows(self, windows: Sequence[Window]) -> Embedded:
        """At most `batch` windows."""
        batch = self.model.batch_of([window.clip for window in windows])
        frames, terms, mean = jax.device_get(self._terms(self.model.params, batch))
        count = len(windows)
        return Embedded(frames[:count], terms[:count], mean[:count])

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """float32 [texts, d], unit."""
        embedded = self.model.embed_texts(texts)
        return embedded / np.maximum(np.linalg.norm(embedded, axis=1, keepdims=True), 1e-12)

    def score(self, query: np.ndarray, frames: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """float32 [n]: the score of each window.

        Args:
            query: float32 [d], unit.
            frames: [n, t, d] as `Embedded.frames`.
            mask: bool [n, t].
        """
        size = 1 << max(_FEWEST, (len(frames) - 1).bit_length())
        padded = np.zeros((size, *frames.shape[1:]), np.float32)
        padded[: len(frames)] = frames
        there = np.zeros((size, mask.shape[1]), bool)
        there[: len(mask)] = mask
        return np.asarray(self._scores(query, padded, there, self._scale))[: len(frames)]

    def without(self, query: np.ndarray, terms: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """float32 [senses, n]: the score of each window without each sense; all of one sense where there is no other.

        `terms`: [n, senses, t, d] as `Embedded.terms`.
        """
        terms = terms.astype(np.float32)
        whole, senses = terms.sum(axis=1), terms.shape[1]
        sums = np.concatenate([whole - terms[:, k] if senses > 1 else whole for k in range(senses)])
        return self.score(query, sums, np.tile(mask, (senses, 1))).reshape(senses, len(terms))

    def matching(self, query: np.ndarray, frames: np.ndarray) -> np.ndarray:
        """float32 [n, t]: cosine of the query with each frame."""
        frames = frames.astype(np.float32)
        return (frames @ query) / np.maximum(np.linalg.norm(frames, axis=-1), 1e-12)

    @functools.cached_property
    def _scale(self) -> jax.Array:
        return jax.device_get(self.model.params["logit_scale"])

    @functools.cached_property
    def _terms(self):
        sizes, module = model_sizes(self.model.config), self.model.module
        weights = dict(zip(sizes.branches, sizes.weights, strict=True))

        def embed(params: dict, batch: dict) -> tuple[jax.Array, jax.Array, jax.Array]:
            video = apply(Retrieval.encode_video, module, params, batch)
            terms = jnp.stack([*attribution.terms(video, weights).values()], axis=1)
            # Unit frames: the score is of directions alone, and float16 holds no more than 65,504.
            length = jnp.linalg.norm(terms.sum(axis=1), axis=-1)[:, None, :, None]
            terms = terms / jnp.maximum(length, 1e-12)
            frames = terms.sum(axis=1)
            mean = similarity.index(frames, batch["frame_mask"]).mean
            return frames.astype(jnp.float16), terms.astype(jnp.float16), jnp.asarray(mean)

        mesh = self.model.mesh
        return jax.jit(embed, in_shardings=(None, sharding.by_sample(mesh)), out_shardings=sharding.replicated(mesh))

    @functools.cached_property
    def _scores(self):
        model = self.model.config.model

        def scores(query: jax.Array, frames: jax.Array, mask: jax.Array, scale: jax.Array) -> jax.Array:
            index = similarity.index(frames, mask)
            return similarity.score(query[None], index, scale, model.temperature, model.score)[0]

        return jax.jit(scores)
