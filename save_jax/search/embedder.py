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
from save_jax.models.similarity import VideoIndex
from save_jax.search.windows import Cut, Window


@dataclasses.dataclass(frozen=True)
class Embedded:
    """Windows as rows."""

    terms: np.ndarray  # float16 [n, senses, t, d], weighted; their sum over the senses is what is scored
    mean: np.ndarray  # float32 [n, d], unit
    mask: np.ndarray  # bool [n, t]


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

    @functools.cached_property
    def batch(self) -> int:
        """Windows embedded at a time."""
        return self.model.batch

    def windows(self, windows: Sequence[Window]) -> Embedded:
        """At most `batch` windows."""
        terms, index = jax.device_get(self._terms(self.model.params, self.model.batch_of([w.clip for w in windows])))
        count = len(windows)
        return Embedded(terms[:count], index.mean[:count], index.mask[:count])

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """float32 [texts, d], unit."""
        embedded = self.model.embed_texts(texts)
        return embedded / np.maximum(np.linalg.norm(embedded, axis=1, keepdims=True), 1e-12)

    def score(self, query: np.ndarray, terms: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """float32 [senses + 1, n]: the score of each window with all senses, then without each one.

        Args:
            query: float32 [d], unit.
            terms: [n, senses, t, d] as `Embedded.terms`.
            mask: bool [n, t].
        """
        if not len(terms):
            return np.zeros((len(self.senses) + 1, 0), np.float32)
        size = 1 << max(4, (len(terms) - 1).bit_length())  # few sizes, so that few programs are compiled
        padded = np.zeros((size, *terms.shape[1:]), terms.dtype)
        padded[: len(terms)] = terms
        there = np.zeros((size, mask.shape[1]), bool)
        there[: len(mask)] = mask
        return np.asarray(self._scores(jnp.asarray(query), padded, there, self._scale))[:, : len(terms)]

    def matching(self, query: np.ndarray, terms: np.ndarray) -> np.ndarray:
        """float32 [n, t]: cosine of the query with each frame."""
        frames = terms.astype(np.float32).sum(axis=1)
        return (frames @ query) / np.maximum(np.linalg.norm(frames, axis=-1), 1e-12)

    @functools.cached_property
    def _scale(self) -> jax.Array:
        return jax.device_get(self.model.params["logit_scale"])

    @functools.cached_property
    def _terms(self):
        sizes, module = model_sizes(self.model.config), self.model.module
        weights = dict(zip(sizes.branches, sizes.weights, strict=True))

        def embed(params: dict, batch: dict) -> tuple[jax.Array, VideoIndex]:
            video = apply(Retrieval.encode_video, module, params, batch)
            terms = jnp.stack([*attribution.terms(video, weights).values()], axis=1)
            return terms.astype(jnp.float16), similarity.index(terms.sum(axis=1), batch["frame_mask"])

        mesh = self.model.mesh
        return jax.jit(embed, in_shardings=(None, sharding.by_sample(mesh)), out_shardings=sharding.replicated(mesh))

    @functools.cached_property
    def _scores(self):
        model = self.model.config.model

        def scores(query: jax.Array, terms: jax.Array, mask: jax.Array, scale: jax.Array) -> jax.Array:
            terms = terms.astype(jnp.float32)
            whole = terms.sum(axis=1)
            sums = [whole] + [whole - terms[:, number] for number in range(terms.shape[1] if terms.shape[1] > 1 else 0)]
            found = [
                similarity.score(query[None], similarity.index(tokens, mask), scale, model.temperature, model.score)[0]
                for tokens in sums
            ]
            return jnp.stack(found + found[:1] * (1 + terms.shape[1] - len(found)))

        return jax.jit(scores)
