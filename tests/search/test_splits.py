"""A run's test split as an index: its clips as they were evaluated, playable where the films are."""

import json

import numpy as np
import pytest
from helpers.library import write_video
from helpers.made_run import make_run, plain_clips

from save_jax.inference import runs
from save_jax.search import command, splits
from save_jax.search.door import open_library
from save_jax.search.store import Store


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run"), "vision", plain_clips(8))


def index(monkeypatch, *words) -> int:
    monkeypatch.setattr("sys.argv", ["search", "index", *map(str, words)])
    return command.main()


def test_it_ranks_as_the_run_does(run, tmp_path, monkeypatch, capsys):
    assert index(monkeypatch, "--run", run, "--index", tmp_path / "lib") == 0
    opened = runs.open_run(str(run))
    library = open_library(tmp_path / "lib")
    best = {hit.id: hit.score for hit in opened.search("a red car", top=8)}
    hits = library.search("a red car", top=8, evidence="fused").hits
    assert len(hits) == len(best) >= 2
    assert {hit.name.removeprefix("test/") for hit in hits} == best.keys()
    np.testing.assert_allclose([hit.score for hit in hits], [*best.values()], atol=0.05)  # frames are kept as float16
    assert index(monkeypatch, "--index", tmp_path / "lib") == 1
    assert "holds the test split of a run, and no folders" in capsys.readouterr().err
    assert index(monkeypatch, "--run", run, "--index", tmp_path / "lib") == 1
    assert "is an index already, of the test split of a run; choose a new folder" in capsys.readouterr().err


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt, 130), (OSError("the disk is full"), 1)])
def test_what_ends_it_half_way_leaves_the_folder_as_it_was(run, tmp_path, monkeypatch, capsys, error, status):
    rows = splits._rows

    def some(*given):
        yield next(rows(*given))
        raise error

    kept = tmp_path / "there" / ".notes"  # an index may be made beside dot files
    kept.parent.mkdir()
    kept.write_text("the user's own")
    for folder, left in ((tmp_path / "new", None), (tmp_path / "there", [kept])):
        monkeypatch.setattr(splits, "_rows", some)
        assert index(monkeypatch, "--run", run, "--index", folder) == status
        assert ([*folder.iterdir()] if folder.exists() else None) == left
        monkeypatch.setattr(splits, "_rows", rows)
        assert index(monkeypatch, "--run", run, "--index", folder) == 0


def test_films_are_found_by_the_clips_ids(run, tmp_path, monkeypatch, capsys):
    films = tmp_path / "films"
    assert index(monkeypatch, "--run", run, "--index", tmp_path / "lib", "--videos", films) == 1
    assert "is named after a clip" in capsys.readouterr().err and not (tmp_path / "lib").exists()
    [first, *_] = [hit.id for hit in runs.open_run(str(run)).search("a red car")]
    path = write_video(films / "sub" / f"{first}.mkv", 2)
    assert index(monkeypatch, "--run", run, "--index", tmp_path / "lib", "--videos", films) == 0
    found = {row["path"]: row["size"] for row in Store.open(str(tmp_path / "lib")).file_rows()}
    assert found[f"sub/{first}.mkv"] == path.stat().st_size and len(found) >= 2
    capsys.readouterr()
    monkeypatch.setattr("sys.argv", ["search", "query", str(tmp_path / "lib"), "a red car", "--json", "--top", "20"])
    assert command.main() == 0
    answer = json.loads(capsys.readouterr().out)
    hits = answer if isinstance(answer, list) else answer["hits"]
    assert str(path) in {hit["file"] for hit in hits}


def test_what_a_run_cannot_be_asked_with_is_said(run, tmp_path, capsys):
    for words, said in {
        ("a car", "--direction", "t2a"): "is no run of VLSA, which alone has directions; leave out --direction",
        ("a car", "--shorter", "3", "--model", "x"): "which --shorter, --model cannot be asked; make its test split a",
        ("--like", "x"): "which --like cannot be asked",
        (): "give a sentence",
    }.items():
        assert command.main(["query", str(run), *words]) == 1
        assert said in capsys.readouterr().err
    assert command.main(["query", str(run), "a car", "--top", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [hit._asdict() for hit in runs.open_run(str(run)).search("a car", 2)]
    for option in ("--direction", "--data-dir"):
        assert command.main(["query", str(tmp_path), "a car", option, "t2a"]) == 1
        assert f"is no run, and {option} is for runs alone; leave it out" in capsys.readouterr().err
