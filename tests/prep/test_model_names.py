"""A recogniser by name, against a hub of this machine that speaks the real protocol."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
from helpers import hub as hubs
from helpers.media import numbered, write_media
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
    with pytest.raises(ValueError, match=r"hf download Systran/faster-whisper-small --include .* --local-dir FOLDER,"):
        whisper.load("faster-whisper", "Systran/faster-whisper-small", 1)


TAG, BRANCH, OTHER = "v1.0", "smaller", "f" * 40


def test_a_size_at_a_revision_is_the_engines_repository_at_its_commit(served, tmp_path, monkeypatch):
    name = "Systran/faster-whisper-tiny.en"
    first = served.push(name, weights(tmp_path / "made"), "main", TAG)
    (tmp_path / "made" / "model.bin").write_text("another")
    second = served.push(name, tmp_path / "made", "main", BRANCH)
    for given, commit in [(f"tiny.en@{TAG}", first), (f"{name}@{BRANCH}", second), ("openai/whisper-tiny.en", second)]:
        assert model_names.resolve("faster-whisper", given) == f"{name}@{commit}"
    assert Path(model_names.local_folder("faster-whisper", f"{name}@{first}"), "model.bin").read_text() == "model.bin"
    with pytest.raises(ValueError, match=r"model Systran/faster-whisper-tiny\.en has no revision v9; give a branch"):
        model_names.resolve("faster-whisper", "tiny.en@v9")
    with pytest.raises(ValueError, match="no folder tinyen@v9, and no such size"):
        model_names.resolve("faster-whisper", "tinyen@v9")
    # A commit is known without being asked for, in this cache or not.
    hubs.ask(monkeypatch, "http://127.0.0.1:9", tmp_path / "cache")  # nobody is there
    for commit in (first, OTHER):
        assert model_names.resolve("faster-whisper", f"tiny.en@{commit}") == f"{name}@{commit}"


def test_a_branch_or_tag_that_the_cache_knows_serves_without_a_network(served, tmp_path, monkeypatch):
    name = "Systran/faster-whisper-tiny.en"
    commit = served.push(name, weights(tmp_path / "made"), "main", TAG)
    huggingface_hub.snapshot_download(name, revision=TAG)
    hubs.ask(monkeypatch, "http://127.0.0.1:9", tmp_path / "cache")  # nobody is there
    assert model_names.resolve("faster-whisper", f"tiny.en@{TAG}") == f"{name}@{commit}"
    assert model_names.resolve("faster-whisper", f"tiny.en@{BRANCH}") == f"{name}@{BRANCH}"


def told(engine: str, model: str) -> list[str]:
    """The arguments of the command that the error tells to run."""
    with pytest.raises(ValueError, match="copy FOLDER here, and pass --model FOLDER") as error:
        model_names.local_folder(engine, model_names.resolve(engine, model))
    [command] = re.findall("run (hf download .*), copy", str(error.value))
    return shlex.split(command)


def test_the_command_that_the_error_tells_fetches_a_folder_of_what_is_needed(served, tmp_path, monkeypatch):
    """Run as it stands, with the hub's own program: the right revision, and one framework's weights."""
    made = weights(tmp_path / "made")
    for name in ("model.safetensors", "merges.txt", "pytorch_model.bin", "tf_model.h5"):
        (made / name).write_text(name)
    served.push("openai/whisper-tiny.en", made, "main", TAG)
    served.push("Systran/faster-whisper-tiny.en", made, "main", TAG)
    (made / "config.json").write_text("later")
    for repository in ("openai/whisper-tiny.en", "Systran/faster-whisper-tiny.en"):
        served.push(repository, made)
    environment = os.environ | hubs.environment(served.address, tmp_path / "there")
    hubs.ask(monkeypatch, "http://127.0.0.1:9", tmp_path / "cache")  # nobody is there
    others = {"transformers": {"merges.txt", "model.safetensors"}, "faster-whisper": {"vocabulary.txt", "model.bin"}}
    for engine, names in others.items():
        command = told(engine, f"tiny.en@{TAG}")
        assert command[2] == model_names.repository(engine, "tiny.en") and command[3:5] == ["--revision", TAG]
        folder = tmp_path / engine
        program = Path(sys.executable).parent / command[0]
        subprocess.run([program, *command[1:-1], folder], env=environment, check=True, capture_output=True)
        got = {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}
        assert got.keys() == {"config.json", "tokenizer.json", *names} and got["config.json"] == "config.json"


def test_weights_of_an_unknown_commit_are_not_taken_for_a_name(served, tmp_path, monkeypatch, capsys):
    """The hub is silent when it is asked for the commit, and answers when the weights are wanted: results would be kept
    by a name that means other weights after the next push."""
    commit = served.push("anna/whisper-birds", weights(tmp_path / "made"), "main", TAG)
    ask, answers = huggingface_hub.HfApi.model_info, []

    def slow(*inputs, **how):
        if not answers.pop(0):
            raise TimeoutError("the hub is slow")
        return ask(*inputs, **how)

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", slow)
    (tmp_path / "videos").mkdir()
    write_media(tmp_path / "videos" / "a.mp4", frames=[numbered(k) for k in range(5)], sound=noise(1))
    command = ["--corpus", "folder", "--root", str(tmp_path / "videos"), "--engine", "faster-whisper", "--vad", "none"]
    for model in ("anna/whisper-birds", f"anna/whisper-birds@{TAG}"):
        answers += [False, True]
        assert transcribe.main([*command, "--model", model]) == 1
        said = capsys.readouterr().err
        assert f"which commit {model} is, and now says anna/whisper-birds@{commit}; give --model anna/" in said
    answers += [False, False]
    assert transcribe.main([*command, "--model", "anna/whisper-birds"]) == 1
    assert (
        "anna/whisper-birds are no folder here, and cannot be fetched (the hub does not answer)"
        in capsys.readouterr().err
    )
    assert not list((tmp_path / "videos").glob("**/*.json"))
    assert not (tmp_path / "cache").exists()  # nothing was fetched


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
