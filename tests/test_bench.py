"""The benches measure what they say: both ways score alike, figures add up, sizes are those counted by hand."""

import json
import time

import jax
import numpy as np
import pytest

from save_jax import bench, efficiency, timing
from save_jax.config import resolve


def test_score_prints_and_writes_its_figures(tmp_path, capsys):
    path = tmp_path / "score.json"
    bench.main(f"score --queries 7 --videos 5,20 --frames 3 --dim 16 --rounds 2 --json {path}".split())
    found = json.loads(path.read_text())
    assert [row["videos"] for row in found["rows"]] == [5, 20]
    assert found["settings"]["queries"] == 7
    for row in found["rows"]:
        assert row["largest_difference"] < 1e-4
        assert row["numpy"]["rounds"] == 2
        for way in ("numpy", "all_pairs", "top_k"):
            assert 0 < row[way]["min"] <= row[way]["median"] <= row[way]["max"]
        assert row["nanoseconds_per_pair"] == pytest.approx(row["all_pairs"]["median"] * 1e9 / (7 * row["videos"]))
    assert found["machine"]["versions"]["jax"] == jax.__version__
    assert "7 queries, 3 frames of width 16" in capsys.readouterr().out


def test_bfloat16_is_of_the_index_alone(tmp_path):
    texts, videos = bench.made(4, 6, 3, 16, "bfloat16")
    assert (texts.dtype, videos.frames.dtype, videos.mask.dtype) == (np.float32, "bfloat16", bool)
    path = tmp_path / "score.json"
    bench.main(f"score --queries 7 --videos 9 --frames 3 --dim 16 --rounds 1 --dtype bfloat16 --json {path}".split())
    assert json.loads(path.read_text())["rows"][0]["largest_difference"] < 1e-4


def test_what_does_not_fit_is_said_and_not_run(tmp_path, capsys):
    path = tmp_path / "score.json"
    bench.main(f"score --queries 2 --videos 4,{10**12} --frames 3 --dim 8 --rounds 1 --json {path}".split())
    row = json.loads(path.read_text())["rows"][1]
    assert row.keys() == {"videos", "not_run"}
    assert "not run: needs" in capsys.readouterr().out


def test_more_videos_than_random_ones_repeat():
    _, videos = bench.made(1, 2500, 2, 4)
    np.testing.assert_array_equal(videos.frames[:1024], videos.frames[1024:2048])
    assert len(videos.mask) == 2500
    assert videos.mask[:, 0].all()  # every video has a frame


def test_ways_take_turns_and_waiting_counts():
    order = []

    def way(name: str, seconds: float):
        return lambda: (order.append(name), time.sleep(seconds))[0]

    found = timing.alternate({"a": way("a", 0.001), "b": way("b", 0.3)}, rounds=3)
    assert order == ["a", "b", "a", "b", "b", "a", "a", "b"]  # a call of each first, then forth, back, forth
    assert found["b"]["min"] >= 0.3 > found["a"]["min"]  # far apart, and a busy machine cannot sleep less
    assert timing.alternate({"b": way("b", 0.02)}, rounds=9, budget=0)["b"]["rounds"] == 1


def test_efficiency_of_a_tiny_model(config):
    found = efficiency.measure(config, videos=6, rounds=2)
    rows = found["rows"]
    assert list(rows) == ["vision", "AVIGATE", "SAVE", "SAVE, one vector"]
    frames, dim = config.data.max_frames, config.model.embed_dim
    assert rows["SAVE"]["bytes"]["float32"] == 4 * (frames + 1) * dim + frames
    assert rows["SAVE, one vector"]["bytes"] == {"float32": 4 * dim, "float16": 2 * dim}
    assert rows["vision"]["parameters"] < rows["AVIGATE"]["parameters"] < rows["SAVE"]["parameters"]
    assert rows["SAVE"]["parameters"] == rows["SAVE, one vector"]["parameters"]
    assert rows["vision"]["score_seconds"] == rows["SAVE"]["score_seconds"]  # one program
    text = efficiency.markdown(found, config, 6, timing.machine())
    assert text.count("\n| ") == 4
    assert "against 6 videos" in text


def test_parameters_of_the_real_sizes():
    """151,277,313 is OpenAI's ViT-B/32 (its state dict); ours adds 77 frame positions of width 512."""
    config = resolve(efficiency.config_lib.base())
    assert (
        efficiency.count(efficiency.parameter_shapes(efficiency.of_branches(config, "vision")))
        == 151_277_313 + 77 * 512
    )
