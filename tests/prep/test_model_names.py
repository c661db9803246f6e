"""A recogniser by name, against a hub of this machine that speaks the real protocol."""

from pathlib import Path

import pytest
from helpers import hub as hubs
from helpers.media import write_media
from helpers.voices import noise

from data_prep.commands import transcribe
from data_prep.speech import model_names, whisper


@pytest.fixture
def served(tmp_path, monkeypatch):
    with hubs.serve() as served:
        hubs.ask(monkeypatch, served.address, tmp_path / "cache")
        yield served


def weights(folder):
    """Files with the names of a model's; nothing loads them."""
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "vocabulary.txt", "model.bin", "README.md", "flax_model.msgpack"):
        (folder / name).write_text(name)
    return folder


@pytest.mark.parametrize(
    ("engine", "model", "name"),
    [
        ("faster-whisper", "tiny.en", "Systran/faster-whisper-tiny.en"),
        ("faster-whisper", "openai/whisper-large-v3", "Systran/faster-whisper-large-v3"),
        ("faster-whisper", "large-v3-turbo", "mobiuslabsgmbh/faster-whisper-large-v3-turbo"),
        ("transformers", "base", "openai/whisper-base"),
        ("transformers", "openai/whisper-large-v3", "openai/whisper-large-v3"),
        ("transformers", "anna/whisper-birds", "anna/whisper-birds"),
    ],
)
def test_a_size_is_a_repository_of_the_engine(engine, model, name):
    assert model_names.repository(engine, model) == name


def test_a_name_is_pinned_to_the_commit_and_only_weights_are_fetched(served, tmp_path):
    commit = served.push("Systran/faster-whisper-tiny.en", weights(tmp_path / "made"))
    found = model_names.resolve("faster-whisper", "tiny.en")
    assert found == f"Systran/faster-whisper-tiny.en@{commit}"
    assert whisper.short_name(found, found) == f"faster-whisper-tiny.en@{commit[:12]}"
    folder = model_names.local_folder("faster-whisper", found)
    (tmp_path / "made" / "model.bin").write_text("another")
    newer = served.push("Systran/faster-whisper-tiny.en", tmp_path / "made")
    assert model_names.resolve("faster-whisper", "tiny.en").endswith(newer)
    assert model_names.local_folder("faster-whisper", found) == folder  # the commit's files, whatever came later
    assert {path.name for path in Path(folder).iterdir()} == {
        "config.json", "tokenizer.json", "vocabulary.txt", "model.bin",
    }  # fmt: skip
    assert (Path(folder) / "model.bin").read_text() == "model.bin"


def test_older_weights_are_fetched_where_there_are_no_others(served, tmp_path):
    (tmp_path / "made").mkdir()
    for name in ("config.json", "pytorch_model.bin", "tf_model.h5"):
        (tmp_path / "made" / name).write_text(name)
    commit = served.push("anna/whisper-birds", tmp_path / "made")
    folder = model_names.local_folder("transformers", f"anna/whisper-birds@{commit}")
    assert {path.name for path in Path(folder).iterdir()} == {"config.json", "pytorch_model.bin"}
    assert model_names.resolve("transformers", f"anna/whisper-birds@{commit}") == f"anna/whisper-birds@{commit}"


def test_without_a_network_the_cache_serves_and_else_the_error_says_what_to_fetch(served, tmp_path, monkeypatch):
    commit = served.push("Systran/faster-whisper-base", weights(tmp_path / "made"))
    model_names.local_folder("faster-whisper", model_names.resolve("faster-whisper", "base"))
    hubs.ask(monkeypatch, "http://127.0.0.1:9", tmp_path / "cache")  # nobody is there
    found = model_names.resolve("faster-whisper", "base")
    assert found == f"Systran/faster-whisper-base@{commit}"
    assert model_names.local_folder("faster-whisper", found).endswith(commit)
    assert model_names.resolve("faster-whisper", "small") == "Systran/faster-whisper-small"
    with pytest.raises(ValueError, match="run hf download Systran/faster-whisper-small --local-dir FOLDER"):
        whisper.load("faster-whisper", "Systran/faster-whisper-small", 1)


def test_a_size_that_there_is_not_is_told_without_a_network(tmp_path, monkeypatch):
    hubs.ask(monkeypatch, "http://127.0.0.1:9", tmp_path / "cache")  # nobody is there
    with pytest.raises(ValueError, match=r"no folder tinyen, and no such size; .*one of tiny, tiny\.en, base"):
        model_names.resolve("faster-whisper", "tinyen")


def test_an_unknown_name_is_told_before_any_clip(served, tmp_path, capsys):
    (tmp_path / "videos").mkdir()
    write_media(tmp_path / "videos" / "a.mp4", sound=noise(1))
    command = ["--corpus", "folder", "--root", str(tmp_path / "videos"), "--engine", "faster-whisper"]
    assert transcribe.main([*command, "--model", "anna/none"]) == 1
    said = capsys.readouterr().err
    assert "the hub has no model anna/none" in said and "one of tiny, tiny.en, base" in said
