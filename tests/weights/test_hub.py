"""Folders of weights out of a hub: addresses, what is asked for, and clear words where it cannot be had."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import hub as hubs
from helpers.places import REPOSITORY

from save_jax.config import resolve
from save_jax.config.finding import read_config
from save_jax.weights import description, hub

NAME = "anna/birds"
DIGEST = "0123456789abcdef" * 4


@pytest.fixture
def folder(tmp_path) -> Path:
    """What a hub holds of a model; its weights are a few bytes, which nobody opens here."""
    folder = tmp_path / "folder"
    folder.mkdir()
    settings = {"licence": "mine", "source": "run birds", "params_sha256": DIGEST}
    description.write(str(folder), resolve(read_config("demo:smoke")), ["vision", "text"], tokenizer=None, **settings)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "vocab.json").write_text("{}")
    (folder / "README.md").write_text("# Birds")
    return folder


@pytest.fixture
def served(tmp_path, monkeypatch):
    with hubs.serve() as served:
        hubs.ask(monkeypatch, served.address, tmp_path / "cache")
        yield served


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("hf://anna/birds", ("anna/birds", "main", "")),
        ("hf://anna/birds@v1.0", ("anna/birds", "v1.0", "")),
        ("hf://a-b/c.d_e@refs/pr/3", ("a-b/c.d_e", "refs/pr/3", "")),
        (f"hf://anna/birds@{'0f' * 20}#sha256=0123abcd0123abcd", ("anna/birds", "0f" * 20, "0123abcd0123abcd")),
        (f"hf://anna/birds#sha256={DIGEST}", ("anna/birds", "main", DIGEST)),
    ],
)
def test_addresses(address, parts):
    assert hub.parse(address) == parts


@pytest.mark.parametrize(
    "address",
    [
        *(
            "hf://birds",
            "hf://anna/birds/more",
            "hf://anna/birds@",
            "hf://anna/birds@a b",
            "hf://",
            "hf://anna/birds#x",
        ),
        *("hf://anna/birds#sha256=0123abc", "hf://anna/birds#sha256=0123ABCD", "hf://anna/birds@a@b"),
    ],
)
def test_what_is_no_address_is_told_the_form(address):
    with pytest.raises(ValueError, match=r"is no address of weights; they are hf://OWNER/NAME, "):
        hub.fetch(address)


def test_a_folder_is_what_the_commit_holds(served, folder):
    """And no more than a model is opened with. Once it is in the cache, only the revision is asked for."""
    first = served.push(NAME, folder, "main", "v1")
    got = Path(hub.fetch(f"hf://{NAME}"))
    assert got.name == first and not (got / "README.md").exists()
    for name in ("description.json", "model.safetensors", "tokenizer/vocab.json"):
        assert (got / name).read_bytes() == (folder / name).read_bytes()
    assert not any("README" in line for line in served.asked)
    served.asked.clear()
    assert hub.fetch(f"hf://{NAME}") == str(got)
    assert {line.split()[0] for line in served.asked} == {"HEAD"}
    (folder / "model.safetensors").write_bytes(b"other weights")
    second = served.push(NAME, folder)
    for revision, commit in (("main", second), ("v1", first), (first, first), (second, second)):
        assert Path(hub.fetch(f"hf://{NAME}@{revision}")).name == commit
    assert (got.with_name(second) / "model.safetensors").read_bytes() == b"other weights"


def test_what_is_not_there_is_named(served, folder):
    served.push(NAME, folder)
    for address, message in (
        ("hf://anna/cats", "the hub has no model anna/cats, or a private one"),
        (f"hf://{NAME}@v9", f"{NAME} has no revision v9; give one of its branches, tags or commits"),
        (f"hf://{NAME}@{'0' * 40}", f"{NAME} has no revision {'0' * 40}"),
    ):
        with pytest.raises(ValueError, match=f"^{address}: {message}"):
            hub.fetch(address)


def test_a_model_of_other_code_is_not_downloaded(served, folder):
    (folder / "description.json").unlink()
    served.push("bert/bert", folder)
    with pytest.raises(ValueError, match=r"bert/bert has no description\.json, so it is no model of save_jax"):
        hub.fetch("hf://bert/bert")
    assert [line.split()[0] for line in served.asked] == ["HEAD"]


def test_a_folder_without_the_file_of_weights(served, folder):
    (folder / "model.safetensors").unlink()
    served.push(NAME, folder)
    with pytest.raises(ValueError, match=r"has no model\.safetensors; its owner makes a folder .*save-jax card"):
        hub.fetch(f"hf://{NAME}")


def test_a_pin_is_checked_before_weights_are_downloaded(served, folder, tmp_path):
    served.push(NAME, folder)
    with pytest.raises(ValueError, match=f"have the digest {DIGEST[:16]}, the address asks for ffffffffffffffff"):
        hub.fetch(f"hf://{NAME}#sha256=ffffffffffffffff")
    assert not any("safetensors" in line or "/store/" in line for line in served.asked)
    assert hub.fetch(f"hf://{NAME}#sha256={DIGEST[:16]}") == hub.fetch(f"hf://{NAME}#sha256={DIGEST}")


def test_a_file_that_is_cut_short_is_refused(served, folder):
    commit = served.push(NAME, folder)
    served.replace(NAME, commit, "model.safetensors", b"weigh")
    with pytest.raises(ValueError, match=rf"^hf://{NAME} could not be downloaded \(OSError: Consistency check failed"):
        hub.fetch(f"hf://{NAME}")
    served.replace(NAME, commit, "model.safetensors", b"weights")
    assert Path(hub.fetch(f"hf://{NAME}"), "model.safetensors").read_bytes() == b"weights"


def test_a_description_that_cannot_be_used_is_told_with_its_address(served, folder):
    (folder / "description.json").write_text('{"format"')
    served.push(NAME, folder)
    with pytest.raises(ValueError, match=rf"^hf://{NAME}: .*description\.json cannot be used"):
        hub.fetch(f"hf://{NAME}")


NOTHING = "http://127.0.0.1:9"  # where nothing listens


def test_without_a_hub_the_cache_serves_or_the_way_is_told(served, folder, tmp_path, monkeypatch, capsys):
    commit = served.push(NAME, folder)
    cache = tmp_path / "of-its-own"
    hubs.ask(monkeypatch, NOTHING, cache)
    begin = time.perf_counter()
    with pytest.raises(
        ValueError, match=rf"^hf://{NAME}@v1 is not in the hub's cache \({cache}\).*ConnectError"
    ) as said:
        hub.fetch(f"hf://{NAME}@v1")
    assert time.perf_counter() - begin < 5  # it is not tried again and again, which takes most of a minute
    assert f"hf download {NAME} --revision v1 --local-dir FOLDER; copy FOLDER here and open it" in str(said.value)
    hubs.ask(monkeypatch, served.address, cache)
    there = hub.fetch(f"hf://{NAME}")
    hubs.ask(monkeypatch, NOTHING, cache)
    assert Path(there).name == commit
    assert hub.fetch(f"hf://{NAME}@{commit}") == there
    assert "used is what its cache holds" not in capsys.readouterr().err  # a commit stays what it is
    assert hub.fetch(f"hf://{NAME}") == there  # which main may have left
    assert f"; used is what its cache holds, commit {commit[:12]}\n" in capsys.readouterr().err
    os.remove(Path(there) / "model.safetensors")  # as after a download that was stopped
    with pytest.raises(ValueError, match="is not in the hub's cache"):
        hub.fetch(f"hf://{NAME}")


PROGRAM = """
import sys
from save_jax.weights import hub
for address in sys.argv[1:]:
    try:
        print(hub.fetch(address))
    except ValueError as error:
        print("error:", error)
"""


def test_the_variables_that_a_user_sets_are_heard(served, folder, tmp_path):
    """HF_ENDPOINT, HF_HUB_CACHE and HF_HUB_OFFLINE, in processes of their own."""
    commit = served.push(NAME, folder)
    cache = tmp_path / "of-its-own"

    def fetch(*addresses: str, **more: str) -> list[str]:
        environment = {**os.environ, **hubs.environment(served.address, cache), **more}
        command = [sys.executable, "-c", PROGRAM, *addresses]
        done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, env=environment, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    [there] = fetch(f"hf://{NAME}")
    assert Path(there) == cache / "models--anna--birds" / "snapshots" / commit
    served.asked.clear()
    *had, missing = fetch(f"hf://{NAME}", f"hf://{NAME}@{commit}", f"hf://{NAME}@v1", HF_HUB_OFFLINE="1")
    assert had == [there, there] and served.asked == []
    assert missing.startswith(f"error: hf://{NAME}@v1 is not in the hub's cache") and "OfflineMode" in missing
