"""Folders of real weights with a part missing, cut, or of another model: refused at once, by what is wrong.

Needs the registries of pip and Debian; see tests/helpers/real_media.py.
"""

from pathlib import Path

import pytest
from helpers import media
from helpers import real_media as packages

from data_prep.commands import transcribe
from data_prep.speech import whisper


def folder(path: Path, without: str = "", **others: Path) -> Path:
    """Whisper base, without a file, and with other files in place of its own (`model_bin` for model.bin)."""
    path.mkdir()
    files = {file.name: file for file in packages.whisper_base().iterdir() if "part" not in file.name}
    files |= {name.replace("_", "."): file for name, file in others.items()}
    for name, file in files.items():
        if name != without:
            (path / name).symlink_to(file)
    return path


def refused(path: Path) -> str:
    with pytest.raises(ValueError, match="cannot be loaded with faster-whisper") as error:
        whisper.load("faster-whisper", str(path), 1)
    return str(error.value)


@pytest.mark.parametrize("name", ["model.bin", "config.json", "tokenizer.json", "vocabulary.json"])
def test_a_part_is_missing(tmp_path, name):
    assert f"it has no {name}" in refused(folder(tmp_path / "model", without=name))


def test_whole_models_pass():
    for path in (packages.whisper_base(), packages.whisper_tiny_en()):
        whisper.check("faster-whisper", str(path))


@pytest.mark.parametrize("size", [0, 100, 10_000_000])
def test_weights_are_cut(tmp_path, size):
    with open(packages.whisper_base() / "model.bin", "rb") as file:
        (tmp_path / "cut").write_bytes(file.read(size))
    message = refused(folder(tmp_path / "model", model_bin=tmp_path / "cut"))
    assert "model.bin is cut" in message and f"it has {size:,} bytes" in message


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.bin", "model.bin knows 51,864 tokens, the vocabulary 51,865"),
        ("config.json", "config.json takes 50256 for <|endoftext|>, tokenizer.json 50257"),
        ("tokenizer.json", "tokenizer.json has 50,363 tokens, the vocabulary 51,865"),
    ],
)
def test_a_part_is_of_another_model(tmp_path, name, message):
    other = {name.replace(".", "_"): packages.whisper_tiny_en() / name}
    assert f"{message}: parts of two models" in refused(folder(tmp_path / "model", **other))


def test_an_english_model_is_asked_for_french(tmp_path, capsys):
    media.write_media(tmp_path / "a.mp4", [media.numbered(k) for k in range(5)], sound=media.tone(16_000, 1))
    command = ["--corpus", "folder", "--root", str(tmp_path), "--engine", "faster-whisper", "--language", "fr"]
    assert transcribe.main([*command, "--model", str(packages.whisper_tiny_en())]) == 1
    assert "knows English alone, and --language is fr" in capsys.readouterr().err
    assert not (tmp_path / "transcripts.json").exists()
