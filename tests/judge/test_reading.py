"""Scores and lists from files: every form gives the same numbers, and every wrong one says what is wrong."""

import json
import pickle
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import save_jax
from save_jax.judge import command, lists, reading

QUERIES = ["q a", "q,b", "q c", "q d"]  # one name needs quotes in a CSV
VIDEOS = ["v1", "v2", "vidéo 3"]
SCORES = np.array([[3, 1, 2], [1, 2, 0.5], [0, 1, 4], [2.5, 0, 1]], np.float32)
RIGHT = [0, 1, 2, 1]


def write(path: Path, kind: str) -> Path:
    """The same scores in every form."""
    if kind == "npy":
        np.save(path / "s.npy", SCORES)
    elif kind == "npz":
        np.savez(path / "s.npz", scores=SCORES, queries=QUERIES, videos=VIDEOS)
    elif kind == "wide csv":
        rows = [",".join(["query", *VIDEOS])] + [
            ",".join([f'"{q}"', *map(str, row)]) for q, row in zip(QUERIES, SCORES.tolist(), strict=True)
        ]
        (path / "s.csv").write_text("\n".join(rows), encoding="utf-8")
    elif kind in ("long tsv", "parquet"):
        order = np.random.default_rng(0).permutation(SCORES.size)
        rows = [(QUERIES[i // 3], VIDEOS[i % 3], SCORES.flat[i].item()) for i in order]
        if kind == "parquet":
            import pyarrow
            import pyarrow.parquet

            columns = {name: list(column) for name, column in zip(reading.LONG, zip(*rows, strict=True), strict=True)}
            pyarrow.parquet.write_table(pyarrow.table(columns), path / "s.parquet", row_group_size=5)
        else:
            lines = ["Video\tquery\tscore"] + [f"{v}\t{q}\t{s}" for q, v, s in rows]
            (path / "s.tsv").write_text("\n".join(lines), encoding="utf-8-sig")
    return next(path.glob("s.*"))


def lists_of(path: Path) -> tuple[str, str]:
    queries = ["key,video_id,sentence,group"]
    queries += [f'"{q}",{VIDEOS[v]},text of {q[-1]},{g}' for q, v, g in zip(QUERIES, RIGHT, "xyxx", strict=True)]
    (path / "queries.csv").write_text("\n".join(queries), encoding="utf-8")
    (path / "videos.csv").write_text("\n".join(["video", *VIDEOS]), encoding="utf-8")
    return str(path / "queries.csv"), str(path / "videos.csv")


@pytest.mark.parametrize("kind", ["npy", "npz", "wide csv", "long tsv", "parquet"])
def test_every_form_gives_the_same(kind, tmp_path, capsys):
    queries, videos = lists_of(tmp_path)
    command.main(
        [str(write(tmp_path, kind)), "--queries", queries, "--videos", videos, "--json", f"{tmp_path}/out.json"]
    )
    results = json.loads((tmp_path / "out.json").read_text())
    expected = save_jax.evaluate_scores(SCORES, caption_to_video=RIGHT, groups=list("xyxx"), videos=VIDEOS)
    assert results["t2v"] == pytest.approx(expected["t2v"]) and results["t2v"]["R@1"] == 75
    assert results["v2t"] == pytest.approx(expected["v2t"])
    assert results["groups"]["x"]["t2v"] == pytest.approx(expected["groups"]["x"]["t2v"])
    said = capsys.readouterr().out
    assert results["signature"] in said and "a gallery of 3 videos" in said
    assert results["signature"].startswith("save-jax|custom.1!|g3:" + expected["protocol"]["gallery"])
    assert "?" not in results["signature"].split("|")[3]  # the texts were given


def test_tensors_and_nothing_else_are_read(tmp_path):
    """What torch.save writes is read in tests/against_torch; a file that would run something is refused."""
    (tmp_path / "s.pt").write_bytes(pickle.dumps(print))
    with pytest.raises(ValueError, match=r"s\.pt"):
        reading.read(str(tmp_path / "s.pt"))


def test_embeddings_of_both_sides(tmp_path, capsys):
    rng = np.random.default_rng(0)
    texts, videos = rng.normal(size=(6, 4)), rng.normal(size=(3, 4))
    cosines = (texts / np.linalg.norm(texts, axis=1, keepdims=True)) @ (
        videos / np.linalg.norm(videos, axis=1, keepdims=True)
    ).T
    np.savez(tmp_path / "e.npz", texts=texts, videos=videos)
    np.save(tmp_path / "t.npy", texts)
    np.save(tmp_path / "v.npy", videos)
    right = [0, 0, 1, 1, 2, 2]
    expected = save_jax.evaluate_scores(cosines, caption_to_video=right)
    assert save_jax.evaluate_scores(tmp_path / "e.npz", caption_to_video=right)["t2v"] == expected["t2v"]
    (tmp_path / "q.csv").write_text("video\n" + "\n".join(map(str, right)))
    command.main(
        ["--embeddings", f"{tmp_path}/t.npy", f"{tmp_path}/v.npy", "--queries", f"{tmp_path}/q.csv", "--latex"]
    )
    assert f"{expected['t2v']['R@1']:.1f}" in capsys.readouterr().out
    with pytest.raises(ValueError, match="embeddings of texts are 4 wide, of videos 3; give those of one model"):
        reading.product(texts, videos[:, :3])
    with pytest.raises(ValueError, match="1 of 3 embeddings of videos are zero, NaN or infinite, the first is"):
        reading.product(texts, videos * [[1], [0], [1]])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "query,video,score\na,v,1\na,v,2\n",
            "1 of 1 pairs come more than once, the first is query 'a' with video 'v'",
        ),
        ("query,video,score\na,v,1\na,w,1\nb,w,2\n", "1 of 4 pairs are missing, of 2 queries and 2 videos"),
        ("query,video,score\na,v,high\n", "line 2 has 'high' in the place of a score"),
        ("query,v,w\na,1\n", "line 2 has 2 cells, the first line 3"),
        ("query,v,v\na,1,2\n", "videos: 1 ids come more than once, such as 'v'"),
        ("query,v,w\na,1,2\na,1,2\n", "queries: 1 ids come more than once, such as 'a'"),
        ("", "it is empty"),
        ("query,video,score\n", "it has no rows"),
    ],
)
def test_wrong_tables_are_refused(content, message, tmp_path):
    (tmp_path / "s.csv").write_text(content)
    with pytest.raises(ValueError, match=message):
        reading.read(str(tmp_path / "s.csv"))


def test_wrong_files_are_refused(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    np.savez(tmp_path / "other.npz", weights=np.eye(2))
    (tmp_path / "s.xlsx").write_text("")
    (tmp_path / "broken.npz").write_text("not a zip archive")
    for name, message in (
        ("objects.npy", "objects.npy: .*Python objects"),
        ("other.npz", r"other.npz: it holds weights; needed is `scores` \[queries, videos\], or embeddings"),
        ("s.xlsx", "suffix '.xlsx'; scores are read from .npy, .npz"),
        ("missing.npy", "there is no .*missing.npy"),
        ("missing-run", "there is no .*missing-run"),
        ("", "there is no .*scores.npz; save-jax eval writes it into a run's folder"),
        ("broken.npz", "broken.npz"),
    ):
        with pytest.raises(ValueError, match=message):
            reading.read(str(tmp_path / name))


@pytest.mark.parametrize(
    ("queries", "videos", "message"),
    [
        ("query,video\na,v\n", None, "1 queries of .*queries.csv, but the scores have 2 rows, without names"),
        ("query,video\na,v\nb,v\n", None, "names 1 videos, the scores have 2 columns; name those by --videos"),
        (
            "query,video\na,v\nb,x\n",
            "video\nv\nw\n",
            "1 videos that .* asks for are not in the gallery of 2, such as 'x'",
        ),
        ("query,video\na,v\na,w\n", None, "queries: 1 ids come more than once, such as 'a'"),
        (
            "query,film\na,v\nb,w\n",
            None,
            "has columns query, film in its first line, and none for video",
        ),
        ("query,video\na,v\nb\n", None, "line 3 has 1 cells, the header 2"),
        ("query,video\n", None, "has no lines below its header"),
        ("query,video\na,v\nb,w\n", "video\nv\nv\n", "videos: 1 ids come more than once, such as 'v'"),
    ],
)
def test_wrong_lists_are_refused(queries, videos, message, tmp_path):
    (tmp_path / "queries.csv").write_text(queries)
    if videos:
        (tmp_path / "videos.csv").write_text(videos)
    with pytest.raises(ValueError, match=message):
        lists.named(
            reading.Given(np.eye(2)), f"{tmp_path}/queries.csv", f"{tmp_path}/videos.csv" if videos else None, None
        )


def test_names_missing_on_either_side_are_told_with_both(tmp_path):
    (tmp_path / "queries.csv").write_text("query,video\na,v\nb,w\n")
    given = reading.Given(np.eye(2), ["a", "c"], ["v", "w"])
    with pytest.raises(
        ValueError, match=r"1 of the queries of .* not among the rows \(such as 'b'\); 1 rows .*such as 'c'"
    ):
        lists.named(given, f"{tmp_path}/queries.csv", None, None)
    turned = reading.Given(np.eye(2), ["v", "w"], ["a", "b"])
    with pytest.raises(ValueError, match="rows have the names of videos: the matrix is transposed; pass --transposed"):
        lists.named(turned, f"{tmp_path}/queries.csv", None, None)
    (tmp_path / "groups.csv").write_text("query,group\na,x\nz,x\n")
    with pytest.raises(ValueError, match=r"groups.csv has 1 queries that .* has not, such as 'z'"):
        lists.named(reading.Given(np.eye(2)), f"{tmp_path}/queries.csv", None, f"{tmp_path}/groups.csv")


def test_a_transposed_matrix_is_noticed_where_the_protocol_tells():
    with pytest.raises(
        ValueError, match="1500 rows and 15000 columns: the matrix is transposed, vatex has 1500 videos"
    ):
        save_jax.evaluate_scores(np.zeros((1500, 15000), np.float16), "vatex")


def test_a_large_matrix_is_read_in_rows(tmp_path):
    """0.6 GB that lies on no disk (a file with a hole): a fraction of it is ever held."""
    scores = np.lib.format.open_memmap(tmp_path / "s.npy", "w+", np.float32, (12_000, 12_000))
    scores[7, 7] = 1
    del scores
    tracemalloc.start()
    results = save_jax.evaluate_scores(tmp_path / "s.npy")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 150e6
    assert results["t2v"]["MRR"] == pytest.approx((1 + 11_999 / 12_000) / 12_000) and results["ties"]["t2v"] == 11_999


def test_the_command_needs_numpy_alone(tmp_path):
    """Of what is installed here, only what is asked for is imported."""
    np.save(tmp_path / "s.npy", np.eye(5))
    program = (
        "import sys, importlib.metadata as m; others = m.packages_distributions().keys() - {'numpy', 'save_jax'}; "
        "before = set(sys.modules); from save_jax.judge.command import main; main([sys.argv[1], '--habits']); "
        "sys.exit(', '.join(others & {name.split('.')[0] for name in set(sys.modules) - before}) or None)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "s.npy")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "None of these is a result" in done.stdout


def named(path: Path, scores, queries=("v", "w", "x"), videos=("v", "w", "x")) -> Path:
    np.savez(path, scores=scores, queries=list(queries), videos=list(videos))
    return path


def test_names_are_matched_whatever_their_order(tmp_path):
    """Seeds and systems in another order of rows and columns give what they would in the first one's order."""
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 3, 3)) + 2 * np.eye(3)
    rows, columns = np.array([2, 0, 1]), np.array([1, 2, 0])
    names = np.array(["v", "w", "x"])
    a = named(tmp_path / "a.npz", first)
    b = named(tmp_path / "b.npz", second)
    turned = named(tmp_path / "turned.npz", second[rows][:, columns], names[rows], names[columns])
    assert save_jax.evaluate_scores(turned)["t2v"] == save_jax.evaluate_scores(b)["t2v"]
    for options in ({}, {"metric": "MRR"}):
        straight = save_jax.evaluate_scores([a, b], against={"b": b}, **options)
        crossed = save_jax.evaluate_scores([a, turned], against={"b": turned}, **options)
        assert crossed["t2v"] == straight["t2v"] and crossed["v2t"] == straight["v2t"]
        assert crossed["comparisons"] == straight["comparisons"]
    (tmp_path / "q.csv").write_text("query,video\nv,v\nw,w\nx,x\n")
    np.save(tmp_path / "plain.npy", second)
    given = [
        lists.named(reading.read(str(f)), f"{tmp_path}/q.csv", None, None) for f in (turned, tmp_path / "plain.npy")
    ]
    assert save_jax.evaluate_scores(given[0], against={"same": given[1]})["comparisons"]["same"]["t2v"].value == 0
    with pytest.raises(ValueError, match="the queries of b have names, and those of the first scores have none"):
        save_jax.evaluate_scores(second, against={"b": b})


def test_names_that_do_not_say_the_right_video_are_refused(tmp_path):
    given = named(tmp_path / "a.npz", np.eye(3), ["first", "second", "third"])
    with pytest.raises(ValueError, match=r"queries have names \('first', 'second', 'third', …\), which do not"):
        save_jax.evaluate_scores(given)
    assert save_jax.evaluate_scores(given, caption_to_video=[0, 1, 2])["t2v"]["R@1"] == 100
    with pytest.raises(ValueError, match=r"videos='a', 'b', 'c', … are not those that the scores have"):
        save_jax.evaluate_scores(given, caption_to_video=[0, 1, 2], videos=["a", "b", "c"])


def test_a_run_brings_its_own_task(tmp_path):
    """Protocol, split, failed videos and what picked the checkpoint go from a run's file into the signature."""
    task = reading.Task(np.array([1, 0]), ["a", "b"], ["x", ""], "demo", "val", ["w"], "val")
    reading.save(str(tmp_path / "scores.npz"), np.eye(2), ["v", "w"], task)
    found = save_jax.evaluate_scores(tmp_path)
    assert found["t2v"]["R@1"] == 0 and found["groups"].keys() == {"x"} and "|pick:val|" in found["signature"]
    assert found["protocol"]["departures"] == [
        "split 'val' is not the test split", "1 videos could not be decoded and rank last",
    ]  # fmt: skip
    (tmp_path / "q.csv").write_text("query,video,text\nw#0,w,c\nv#0,v,d\n")  # a list that says less keeps the rest
    again = lists.named(reading.read(str(tmp_path)), f"{tmp_path}/q.csv", None, None)
    assert save_jax.evaluate_scores(again)["protocol"]["departures"] == found["protocol"]["departures"]
    assert save_jax.evaluate_scores(again)["groups"].keys() == {"x"}
    with pytest.raises(
        ValueError, match="against and the first scores have queries of the same names with other texts"
    ):
        save_jax.evaluate_scores(tmp_path, against={"against": again})
    with pytest.raises(ValueError, match="the scores are of demo, as their file says, and not of vatex"):
        save_jax.evaluate_scores(tmp_path, "vatex")


def test_what_python_has_in_memory(tmp_path):
    """Lists, views, integers, unsigned numbers of videos, arrays as names."""
    rng = np.random.default_rng(0)
    scores, right = rng.integers(0, 50, (6, 3)), np.array([1, 0, 1, 2, 0, 2], np.uint8)
    expected = save_jax.evaluate_scores(scores.astype(float), caption_to_video=right.tolist())
    for same in (scores, scores.tolist(), np.asfortranarray(scores), np.repeat(scores, 2, axis=0)[::2]):
        found = save_jax.evaluate_scores(
            same, caption_to_video=right, videos=np.array([7, 8, 9]), groups=np.array(list("ababab"))
        )
        assert found["t2v"] == expected["t2v"] and found["v2t"] == expected["v2t"]
        assert found["protocol"]["gallery"] == save_jax.evaluate_scores(np.eye(3), videos="789")["protocol"]["gallery"]
    for wrong, message in (
        ([], "there is a system without any scores"),
        (np.ma.masked_greater(scores, 40), "a masked array; fill what is masked"),
        (np.ones((2, 3), bool), "are bool, not real numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            save_jax.evaluate_scores(wrong)
    with pytest.raises(ValueError, match="metric 'R@3'"):
        save_jax.evaluate_scores(np.eye(3), metric="R@3")


def test_a_table_of_chance_is_noted(capsys, tmp_path):
    np.save(tmp_path / "s.npy", -np.random.default_rng(0).normal(size=(40, 40)) - np.eye(40))
    command.main([str(tmp_path / "s.npy")])
    assert "NOTE: text → video is at chance. Check the order of rows and columns" in capsys.readouterr().out
