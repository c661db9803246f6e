"""Checkpoints as training scripts save them are read; files that would take more memory than they hold are refused."""

import argparse
import pathlib
import pickle
import types
import zipfile

import numpy as np
import pytest
from helpers import torch_archive
from helpers.places import GOLDEN

from save_jax.parity import fixtures
from save_jax.weights import convert
from save_jax.weights import files as weight_files
from save_jax.weights.sizes import count_layers

A = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_what_training_scripts_store_beside_weights_is_left_out(tmp_path):
    beside = {
        "epoch": 3,
        "best": np.float64(0.7),
        "history": [np.float32(1), np.arange(3).astype(np.int64).tolist()],
        "args": argparse.Namespace(out=pathlib.PosixPath("/x"), lr=1e-3, more=types.SimpleNamespace(a={1, 2})),
        "raw": b"bytes",
    }
    for number, protocol in enumerate((2, 4)):
        path = torch_archive.save(
            tmp_path / f"{number}.pt", {"state_dict": {"a": A, "b": A.T}, **beside}, protocol=protocol
        )
        found = weight_files.read(path)
        assert found.keys() == {"a", "b"}
        np.testing.assert_array_equal(found["a"], A)
        np.testing.assert_array_equal(found["b"], A.T)
    flat = weight_files.read(torch_archive.save(tmp_path / "flat.pt", {"a": A, "step": np.int64(2)}))
    assert flat.keys() == {"a"}


@pytest.mark.parametrize("prefix", ["module.", "model.", "module._orig_mod.", "model.module."])
def test_what_training_puts_before_names_is_taken_off(prefix):
    official = fixtures.load(GOLDEN / "save_tiny_train.npz").under("w/")
    clip = {k.removeprefix("clip."): x for k, x in official.items() if k.startswith("clip.") and "audio" not in k}
    source = {prefix + name: x for name, x in clip.items()}
    names, told = convert.own_names(source, convert.RULES["clip"])
    assert names.keys() == clip.keys() and told == f"{prefix} was taken off the names"
    assert convert.convert(source, "clip").params.keys() == convert.convert(clip, "clip").params.keys()
    ast = {k.removeprefix("clip.audio."): x for k, x in official.items() if k.startswith("clip.audio.v.")}
    assert convert.convert(ast, "ast").params.keys() == {"ast"}  # without its own module.
    assert convert.own_names({"poetry": A}, convert.RULES["clip"]) == ({"poetry": A}, "")


# ---------------------------------------------------------------- what would take more memory than the file holds


def refused(path: str, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        weight_files.read(path)


def test_a_tensor_is_no_larger_than_its_storage(tmp_path):
    for number, (shape, strides) in enumerate([((10**9,), (0,)), ((10**6, 10**6), (0, 0)), ((3, 3), (1, 1))]):
        tree = {"a": A, "b": torch_archive.Tensor("0", 6, shape, strides)}
        refused(torch_archive.save(tmp_path / f"{number}.pt", tree), "repeats the 6 numbers of its storage")
    for number, (shape, strides) in enumerate([((10**12,), (1,)), ((2, -3), (3, 1)), ((3, 2), (-1, 1))], 5):
        tree = {"a": A, "b": torch_archive.Tensor("0", 6, shape, strides)}
        refused(torch_archive.save(tmp_path / f"{number}.pt", tree), "reaches outside its storage")


def test_packed_storages_are_refused(tmp_path):
    path = torch_archive.save(tmp_path / "zeros.pt", {"a": np.zeros(1 << 22)}, zipfile.ZIP_DEFLATED)
    refused(path, r"is packed in it \(\d+ bytes for \d+\), as PyTorch never does")


def test_tensors_share_storages_within_bounds(tmp_path):
    tied = {f"t{number}": torch_archive.Tensor("0", 1000, (1000,), (1,)) for number in range(3)}
    found = weight_files.read(torch_archive.save(tmp_path / "tied.pt", {"a": np.ones(1000), **tied}))
    assert len(found) == 4 and np.shares_memory(found["a"], found["t0"])
    many = {f"t{number}": torch_archive.Tensor("0", 100_000, (100_000,), (1,)) for number in range(50)}
    refused(torch_archive.save(tmp_path / "many.pt", {"a": np.ones(100_000), **many}), "times the file")


def test_pickles_that_reserve_memory_are_refused(tmp_path):
    def archive(name: str, content: bytes) -> str:
        with zipfile.ZipFile(tmp_path / name, "w") as file:
            file.writestr("archive/data.pkl", content)
        return str(tmp_path / name)

    refused(archive("put.pt", pickle.PROTO + b"\x02}r\xff\xff\xff\x7f."), "reserves 2147483647 places")
    refused(archive("bytes.pt", pickle.PROTO + b"\x05\x96" + (1 << 40).to_bytes(8, "little") + b"."), "is refused")
    laughs: dict = {}
    for _ in range(30):
        laughs = {"a": laughs, "b": laughs}
    refused(archive("laughs.pt", pickle.dumps(laughs, 2)), "names more than 1,000,000 things")
    cycle: dict = {}
    cycle["a"] = cycle
    refused(archive("cycle.pt", pickle.dumps(cycle, 2)), "or some 100 deep in others")


def test_names_make_no_layers():
    blocks = {f"vision/block_{number}/ln_1/bias": A for number in (0, 1, 2, 10**9)}
    assert count_layers(blocks, "vision") == 3
    assert count_layers({f"vision/block_{number}/ln_1/bias": A for number in (0, 2)}, "vision") == 3
