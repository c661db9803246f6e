"""Weights that are not whole, which transformers fills up with random numbers; versions that CTranslate2 refuses."""

import contextlib
import re
import shutil
from pathlib import Path

import pytest

from data_prep.speech import sounds, whisper

torch = pytest.importorskip("torch", reason="needs the torch extra")
pytest.importorskip("transformers")

from helpers.tiny_whisper import write_ast, write_whisper  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

HEARS, CLASSES = "model.encoder.layers.0.fc1.weight", "classifier.dense.weight"


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("originals")
    return {"whisper": Path(write_whisper(folder / "whisper")), "ast": Path(write_ast(folder / "ast"))}


def changed(original: Path, folder: Path, without: str = "", shorter: str = "") -> str:
    """A copy, `without` the tensors whose names match, and with half the rows of `shorter`."""
    shutil.copytree(original, folder)
    tensors = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if not (without and re.match(without, name))}
    kept |= {name: tensor[: len(tensor) // 2].clone() for name, tensor in kept.items() if name == shorter}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    return str(folder)


def test_whole_weights_pass_though_what_is_tied_is_stored_once(originals):
    assert "proj_out.weight" not in load_file(originals["whisper"] / "model.safetensors")
    whisper.load("transformers", str(originals["whisper"]), 1)
    sounds.SoundClasses(str(originals["ast"]))


def test_whisper_without_a_tensor_is_refused_by_its_name(originals, tmp_path):
    folder = changed(originals["whisper"], tmp_path / "one", without=HEARS)
    with pytest.raises(ValueError, match=rf"cannot be loaded .*1 of its tensors are missing: {HEARS}; copy or save"):
        whisper.load("transformers", folder, 1)
    folder = changed(originals["whisper"], tmp_path / "layer", without=r"model\.decoder\.layers\.1\.")
    with pytest.raises(ValueError, match=r"24 of its tensors are missing: model\.decoder\.layers\.1\..*, …; copy"):
        whisper.load("transformers", folder, 1)
    folder = changed(originals["whisper"], tmp_path / "tokens", without=r"model\.decoder\.embed_tokens")
    with pytest.raises(ValueError, match=r"model\.decoder\.embed_tokens\.weight"):  # and with them what is tied to them
        whisper.load("transformers", folder, 1)


def test_whisper_with_a_tensor_of_another_shape_is_refused_by_its_name(originals, tmp_path):
    folder = changed(originals["whisper"], tmp_path / "short", shorter=HEARS)
    with pytest.raises(ValueError, match=rf"{HEARS} of \[32, 64\], not \[64, 64\]"):
        whisper.load("transformers", folder, 1)


def test_ast_that_is_not_whole_is_refused_by_names(originals, tmp_path, capfd):
    folder = changed(originals["ast"], tmp_path / "lacks", without=CLASSES)
    with pytest.raises(ValueError, match=f"--ast {folder} cannot be loaded .*1 of its tensors are missing: {CLASSES}"):
        sounds.SoundClasses(folder)
    folder = changed(originals["ast"], tmp_path / "short", shorter=CLASSES)
    with pytest.raises(ValueError, match=rf"{CLASSES} of \[1, 32\], not \[3, 32\]"):
        sounds.SoundClasses(folder)
    assert capfd.readouterr().err == ""


def test_versions_that_are_refused_are_those_that_ctranslate2_does_not_load(originals, tmp_path):
    from ctranslate2.converters import TransformersConverter
    from ctranslate2.models import Whisper

    files, folder = ["tokenizer.json", "preprocessor_config.json"], str(tmp_path / "converted")
    TransformersConverter(str(originals["whisper"]), copy_files=files).convert(folder)
    path = Path(folder, "model.bin")
    content = path.read_bytes()
    loads, passes = [], []
    for version in range(9):
        path.write_bytes(bytes([version]) + content[1:])
        with contextlib.suppress(RuntimeError):
            Whisper(folder)
            loads.append(version)
        with contextlib.suppress(ValueError):
            whisper.check("faster-whisper", folder)
            passes.append(version)
    assert passes == loads == [4, 5, 6]
