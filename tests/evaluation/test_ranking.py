"""Tiled scoring gives what scoring at once gives, on one device and on eight, whatever the tile."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from save_jax import sharding
from save_jax.evaluation import scoring
from save_jax.models import similarity

SCALE = jnp.log(jnp.float32(60.0))


def made(queries: int, videos: int, shared: float = 0.0) -> tuple[np.ndarray, similarity.VideoIndex]:
    rng = np.random.default_rng(0)
    mask = rng.random((videos, 5)) < 0.7
    mask[3] = False  # a video without any frame
    tokens = rng.normal(size=(videos, 5, 16)).astype(np.float32) + np.float32(shared)
    return rng.normal(size=(queries, 16)).astype(np.float32) - np.float32(shared), jax.device_get(
        similarity.index(jnp.asarray(tokens), jnp.asarray(mask))
    )


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("tile", [1, 7 * 512, 1 << 26])
def test_tiles_and_devices_change_nothing(monkeypatch, devices, tile):
    texts, videos = made(530, 37)  # more than one block of queries
    monkeypatch.setattr(scoring, "TILE", tile * 5)
    mesh = sharding.make_mesh(jax.devices()[:devices])
    found = scoring.all_pairs(texts, videos, SCALE, mesh)
    np.testing.assert_allclose(found, similarity.score(jnp.asarray(texts), videos, SCALE), rtol=1e-5, atol=1e-4)
    assert (found.argmin(axis=1) == 3).all()


@pytest.mark.parametrize("grains", ["both", "global"])
@pytest.mark.parametrize("tile", [5, 8, 40])
def test_top_k_is_the_head_of_the_sorted_matrix(tile, grains):
    """Also where scores are negative: neither what pads the last tile nor a video without frames comes in between."""
    texts, videos = made(7, 37, shared=3.0)
    scores = np.asarray(similarity.score(jnp.asarray(texts), videos, SCALE, grains=grains))
    found, numbers = scoring.top_k(texts, scoring.pad(videos, tile), SCALE, k=4, tile=tile, grains=grains)
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :4]
    assert (scores < 0).all() and not (numbers == 3).any()
    np.testing.assert_array_equal(numbers, expected)
    np.testing.assert_allclose(found, np.take_along_axis(scores, expected, axis=1), rtol=1e-5)


def test_a_tile_that_does_not_fit_is_refused():
    texts, videos = made(7, 37)
    with pytest.raises(ValueError, match="37 videos are not a multiple of tile 8"):
        scoring.top_k(texts, videos, SCALE, k=4, tile=8)
