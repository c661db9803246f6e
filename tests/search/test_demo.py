"""The small library of `save-jax search demo`: made, indexed with the weights in the package, and asked."""

import json
import os
import sys
from pathlib import Path

import pytest

from save_jax.search import command, demo
from save_jax.search.models import open_embedder, sentences_of
from save_jax.search.store import Store


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder, after the command ran."""
    folder = tmp_path_factory.mktemp("demo")
    before = sys.argv
    sys.argv = ["search", "demo", str(folder), "--jobs", "2", "--no-serve"]
    try:
        assert command.main() == 0
    finally:
        sys.argv = before
    return folder


def test_its_questions_are_answered(made, monkeypatch, capsys):
    """Those that are offered, of each kind: sound, speech, both, pictures."""
    library, found = str(made / "library"), 0
    offered = Store.open(library).about.examples
    assert 4 <= len(offered) <= 5 and set(offered) <= set(demo.questions(made / "videos"))
    for sentence in offered:
        monkeypatch.setattr("sys.argv", ["search", "query", library, sentence, "--json", "--top", "5"])
        assert command.main() == 0
        answer = json.loads(capsys.readouterr().out)
        hits = answer if isinstance(answer, list) else answer["hits"]
        assert len(hits) == 5 and all(Path(hit["file"]).exists() for hit in hits)
        found += isinstance(answer, list)
    assert found == len(offered)


def test_what_is_there_is_left(made, monkeypatch, capsys):
    before = {path: os.stat(path).st_mtime_ns for path in (made / "videos").rglob("*.mp4")}
    monkeypatch.setattr("sys.argv", ["search", "demo", str(made), "--no-serve"])
    assert command.main() == 0
    assert "0 files embedded" in capsys.readouterr().out
    assert before == {path: os.stat(path).st_mtime_ns for path in (made / "videos").rglob("*.mp4")}
    assert len(before) == 19


def test_the_packaged_model_is_small_and_known_by_name():
    folder = Path(demo.model_folder())
    assert sum(path.stat().st_size for path in folder.rglob("*")) < 4e6
    assert open_embedder("demo").senses == ("vision", "audio", "speech")
    assert len(sentences_of("demo")) >= 100
