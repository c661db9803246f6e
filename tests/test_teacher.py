"""ImageBind vectors from files, and what is wrong with them."""

import importlib.util

import numpy as np
import pytest

from data_prep.teachers import vectors


def test_npy(tmp_path):
    vector = np.arange(1024, dtype=np.float64)
    np.save(tmp_path / "a.npy", vector[None])  # one row of a matrix, as some exports are
    loaded = vectors.read_vector(str(tmp_path / "a.npy"))
    assert loaded.dtype == np.float32
    np.testing.assert_array_equal(loaded, vector)


def test_bad_vectors(tmp_path):
    path = tmp_path / "a.npy"
    for values, match in (
        (np.zeros(512), "a.npy: the vector has 512 values, ImageBind's have 1024"),
        (np.full(1024, np.nan), "a.npy: 1024 of 1024 values are not finite"),
        (np.array([None] * 1024), "a.npy: not a .npy array"),
    ):
        np.save(path, values, allow_pickle=True)
        with pytest.raises(ValueError, match=match):
            vectors.read_vector(str(path))
    path.write_bytes(b"text")
    with pytest.raises(ValueError, match=r"not a \.npy array"):
        vectors.read_vector(str(path))


def test_pt(tmp_path):
    path = tmp_path / "a.pt"
    if importlib.util.find_spec("torch") is None:
        with pytest.raises(ValueError, match=r"1 teacher files are \.pt .*pip install 'save_jax\[torch\]'"):
            vectors.read_vector(str(path))
        return
    import torch

    torch.save(torch.arange(1024).half(), path)
    np.testing.assert_array_equal(vectors.read_vector(str(path)), np.arange(1024))
    path.write_bytes(b"text")
    with pytest.raises(ValueError, match="not a saved tensor"):
        vectors.read_vector(str(path))
