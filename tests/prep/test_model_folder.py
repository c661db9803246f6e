"""Folders of a model for faster-whisper, with parts that do not go together: files as small as their checks need."""

import json
import struct

import ctranslate2
import numpy as np
import pytest
from helpers import hub as hubs
from helpers.media import write_media
from helpers.voices import noise

from data_prep.commands import transcribe
from data_prep.speech import whisper

TOKENS = 7


@pytest.fixture
def folder(tmp_path):
    vocabulary = [f"t{number}" for number in range(TOKENS)]
    write(tmp_path, "config.json", {})
    write(tmp_path, "vocabulary.json", vocabulary)
    ids = {token: number for number, token in enumerate(vocabulary)}
    write(tmp_path, "tokenizer.json", {"model": {"vocab": ids}, "added_tokens": []})
    write_weights(tmp_path, mels=80)
    return tmp_path


def write(folder, name, content):
    (folder / name).write_text(json.dumps(content))


def write_weights(folder, mels):
    """As CTranslate2's model_spec.py does: version, kind, revision, and for each tensor name, shape, type and bytes."""
    shapes = {"encoder/conv1/weight": (2, mels, 3), "decoder/embeddings/weight": (TOKENS, 2)}
    data = struct.pack("<I", 6) + text("WhisperSpec") + struct.pack("<II", 3, len(shapes))
    for name, shape in shapes.items():
        data += text(name) + struct.pack(f"<B{len(shape)}IBI", len(shape), *shape, 0, 4) + bytes(4)
    (folder / "model.bin").write_bytes(data)


def text(name):
    return struct.pack("<H", len(name) + 1) + name.encode() + b"\0"


def refused(folder):
    with pytest.raises(ValueError, match="cannot be loaded with faster-whisper") as error:
        whisper.check("faster-whisper", str(folder))
    return str(error.value)


@pytest.mark.parametrize("mels", [80, 128])
def test_a_whole_folder_passes(folder, mels):
    write_weights(folder, mels)
    write(folder, "preprocessor_config.json", {"feature_size": mels})
    whisper.check("faster-whisper", str(folder))


def test_large_v3_without_its_frequencies(folder):
    """Every clip would fail, one after the other."""
    write_weights(folder, 128)
    assert "model.bin takes 128 mel frequencies, it has no preprocessor_config.json" in refused(folder)


def test_the_frequencies_are_of_another_model(folder):
    write(folder, "preprocessor_config.json", {"feature_size": 128})
    assert "takes 80 mel frequencies, preprocessor_config.json makes 128: parts of two models" in refused(folder)


def change_version(folder, version):
    """It is the first byte, and the three after it."""
    data = (folder / "model.bin").read_bytes()
    assert data[:4] == b"\6\0\0\0"
    (folder / "model.bin").write_bytes(bytes([version]) + data[1:])


@pytest.mark.parametrize("version", [0, 3, 7, 255])
def test_a_version_that_ctranslate2_cannot_read(folder, version):
    change_version(folder, version)
    message = refused(folder)
    assert f"model.bin is of version {version}, and CTranslate2 {ctranslate2.__version__}" in message
    assert "reads 4 to 6: convert the model again" in message
    assert ("install a later CTranslate2" in message) == (version > 6)


def test_a_pointer_of_git_lfs_in_place_of_the_weights(folder):
    (folder / "model.bin").write_text("version https://git-lfs.github.com/spec/v1\n")
    assert "model.bin is no model of CTranslate2: it begins with b'vers'; copy it again" in refused(folder)


@pytest.mark.parametrize("version", [4, 5, 6])
def test_a_version_that_ctranslate2_reads(folder, version):
    change_version(folder, version)
    whisper.check("faster-whisper", str(folder))


def test_a_version_that_only_a_later_ctranslate2_reads_is_left_to_it(folder, monkeypatch):
    """Where it finds its tensors, nobody here knows."""
    change_version(folder, 7)
    monkeypatch.setattr("ctranslate2.specs.model_spec.CURRENT_BINARY_VERSION", 7)
    whisper.check("faster-whisper", str(folder))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "vocabulary.json"])
def test_a_file_that_is_cut_is_named(folder, name):
    (folder / name).write_text((folder / name).read_text()[:-1])
    assert f"{name} is no JSON, or cut" in refused(folder)


def test_a_vocabulary_of_another_library(folder):
    write(folder, "vocabulary.json", {f"t{number}": number for number in range(TOKENS)})
    assert "vocabulary.json is no list of tokens" in refused(folder)


def test_an_english_model_of_the_hub_whose_name_does_not_say_so(folder, tmp_path_factory, monkeypatch, capsys):
    """A name is known by what it ends in; what is fetched, by its vocabulary."""
    videos = tmp_path_factory.mktemp("videos")
    write_media(videos / "a.mp4", frames=[np.zeros((32, 32, 3), np.uint8)] * 5, sound=noise(1))
    command = ["--corpus", "folder", "--root", str(videos), "--engine", "faster-whisper", "--vad", "none"]
    with hubs.serve() as served:
        hubs.ask(monkeypatch, served.address, tmp_path_factory.mktemp("hub"))
        served.push("anna/whisper-birds", folder)
        assert transcribe.main([*command, "--model", "anna/whisper-birds", "--language", "fr"]) == 1
    assert "knows English alone, and --language is fr" in capsys.readouterr().err
    assert not (videos / "transcripts.json").exists()


def test_a_folder_of_the_other_engine_names_it(folder):
    with pytest.raises(ValueError, match="in the form of faster-whisper: take --engine faster-whisper"):
        whisper.check("transformers", str(folder))
    (folder / "model.bin").rename(folder / "model.safetensors")
    assert "in the form of transformers: take --engine transformers" in refused(folder)
