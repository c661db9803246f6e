"""The score of many texts and videos, in tiles: all pairs in bounded memory, or the best few of each text."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from save_jax import sharding
from save_jax.models import similarity
from save_jax.models.similarity import VideoIndex

# Scores per frame in one tile: 64 million float32 are 256 MB. On a CPU a tile should stay in the cache: with large ones
# all pairs of 100 queries and 100,000 videos took nine times as long as NumPy.
TILE = 1 << 26
CPU_TILE = 1 << 19


def tile_of(queries: int, frames: int, platform: str) -> int:
    """How many videos to score at once against `queries` queries. Few count as 64: the videos need memory, too.

    Args:
        platform: what computes, "cpu" or another.
    """
    tile = min(TILE, CPU_TILE) if platform == "cpu" else TILE
    return max(1, tile // max(1, max(queries, 64) * frames))


def pad(videos: VideoIndex, multiple: int) -> VideoIndex:
    """Appends videos without any frame until their number is a multiple. They score below all real ones."""
    extra = -len(videos.mask) % multiple
    if not extra:
        return videos
    return jax.tree.map(lambda x: np.concatenate([x, np.zeros((extra, *x.shape[1:]), x.dtype)]), videos)


def all_pairs(
    texts: np.ndarray,
    videos: VideoIndex,
    logit_scale: jax.Array,
    mesh: Mesh,
    temperature: float = 1.0,
    grains: str = "both",
) -> np.ndarray:
    """float32 [texts, videos], `similarity.score` of every pair. Device memory holds one tile at a time.

    Args:
        texts: float [texts, d].
        videos: of NumPy arrays. Each tile is sharded over the mesh's devices here.
        logit_scale, temperature, grains: as in `similarity.score`.
    """
    count, size = len(videos.mask), min(len(texts), 512)
    padded = np.concatenate([texts, np.zeros((-len(texts) % size, texts.shape[1]), texts.dtype)])
    tile = -(-min(count, tile_of(size, videos.frames.shape[1], sharding.platform(mesh))) // mesh.size) * mesh.size
    scores = np.empty((len(padded), -(-count // tile) * tile), np.float32)
    for at in range(0, count, tile):
        part = pad(jax.tree.map(lambda x, at=at: x[at : at + tile], videos), tile)
        part = jax.device_put(part, sharding.by_sample(mesh))
        for row in range(0, len(padded), size):
            block = jax.device_put(padded[row : row + size], sharding.replicated(mesh))
            scores[row : row + size, at : at + tile] = _score(block, part, logit_scale, temperature, grains)
    return scores[: len(texts), :count]


_score = jax.jit(similarity.score, static_argnames=("temperature", "grains"))


@functools.partial(jax.jit, static_argnames=("k", "tile", "temperature", "grains"))
def top_k(
    texts: jax.Array,
    videos: VideoIndex,
    logit_scale: jax.Array,
    k: int,
    tile: int,
    temperature: float = 1.0,
    grains: str = "both",
) -> tuple[jax.Array, jax.Array]:
    """The best `k` videos of each text, without the matrix of all pairs.

    Args:
        texts: float [q, d].
        videos: on the device; their number is a multiple of `tile` (`pad` makes it one).
        tile: videos scored at once, at least k (`tile_of` gives a size that fits).
    Returns:
        Scores float32 [q, k], highest first, and numbers int32 [q, k]. Of equal scores the lower number comes first.
    """
    if len(videos.mask) % tile or tile < k:
        raise ValueError(f"{len(videos.mask)} videos are not a multiple of tile {tile}, or the tile is less than k={k}")

    def step(best: tuple[jax.Array, jax.Array], number: jax.Array) -> tuple[tuple[jax.Array, jax.Array], None]:
        part = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, number * tile, tile), videos)
        scores, places = jax.lax.top_k(similarity.score(texts, part, logit_scale, temperature, grains), k)
        scores = jnp.concatenate([best[0], scores], axis=1)
        numbers = jnp.concatenate([best[1], number * tile + places], axis=1)
        scores, order = jax.lax.top_k(scores, k)
        return (scores, jnp.take_along_axis(numbers, order, axis=1)), None

    nothing = (jnp.full((len(texts), k), -jnp.inf), jnp.full((len(texts), k), -1, jnp.int32))
    best, _ = jax.lax.scan(step, nothing, jnp.arange(len(videos.mask) // tile, dtype=jnp.int32))
    return best
