"""The benches measure what they say: both ways score alike, figures add up, sizes are those counted by hand."""

import json
import time
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from helpers.jaxprs import products
from helpers.made_run import make_run, plain_clips

from save_jax.bench import command as bench
from save_jax.bench import efficiency, score, timing
from save_jax.bench import step as bench_step
from save_jax.config import model_sizes, resolve
from save_jax.models import operations, trees
from save_jax.models.retrieval import Retrieval
from save_jax.training import optim
from save_jax.training.objectives import RetrievalObjective
from save_jax.training.step import loss_of_batch


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
    texts, videos = score.made(4, 6, 3, 16, "bfloat16")
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


def test_top_k_on_the_device_stands_beside_its_floor(tmp_path, capsys):
    texts, videos = score.made_on_device(4, 10, 3, 8, "bfloat16", tile=4)
    assert texts.shape == (4, 8) and videos.frames.shape == (12, 3, 8) and videos.frames.dtype == "bfloat16"
    assert videos.mask[:10, 0].all() and not videos.mask[10:].any()  # padded to whole tiles
    path = tmp_path / "score.json"
    bench.main(f"score --on-device --queries 7 --videos 20 --frames 3 --dim 16 --rounds 2 --json {path}".split())
    [row] = json.loads(path.read_text())["rows"]
    assert row["flops"] == 2 * 7 * 20 * 4 * 16 and row["index_bytes"] == 4 * 20 * 4 * 16
    assert row["floors"]["products"] == row["flops"] / row["matrix_rate"]
    assert row["over_floor"] == row["top_k"]["median"] / max(row["floors"].values())
    assert "over the larger" in capsys.readouterr().out


def test_more_videos_than_random_ones_repeat():
    _, videos = score.made(1, 2500, 2, 4)
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


# ---------------------------------------------------------------- training


def tiny(cache: str, **changes: object):
    """The config that `bench step --backbone tiny` runs, changed."""
    options = {"model": "save", "backbone": "tiny", "batch": 4, "micro_batch": 0, "dtype": "float32"}
    options |= {"remat": "none", "attention": "xla"} | changes
    return bench_step.config_of(SimpleNamespace(**options), cache)


@pytest.mark.parametrize("cache", ["none", "towers"])
def test_operations_are_those_of_the_program(cache):
    """Every product of the gradient that JAX traces, in exact numbers; sound is held to the PyTorch twin's instead.

    Our resampler takes fewer products than the method as written, which is what is counted.
    """
    config = tiny(cache, batch=3).copy_and_resolve_references().unlock()
    config.model.branches = "vision,speech"
    config = resolve(config)
    objective = RetrievalObjective(Retrieval(model_sizes(config)), config)
    params = efficiency.parameter_shapes(config)
    batch = {name: jax.ShapeDtypeStruct(*spec) for name, spec in bench_step.batch_shapes(config).items()}
    trained, frozen = optim.split_frozen(params, config.optim.frozen)

    def loss(trained, frozen, batch):
        return loss_of_batch(objective, trees.unflatten(trained | frozen), batch)[0]

    traced = products(jax.make_jaxpr(jax.grad(loss))(trained, frozen, batch).jaxpr)
    masked_means = 3 * 2 * 3 * config.data.max_frames * config.model.embed_dim  # of the score, its gradient, the margin
    assert sum(operations.of_step(config).values()) + masked_means == traced


def test_operations_of_a_batch_of_128():
    """Teraoperations as counted by hand: AST alone 12 layers of 1,214 tokens, 260 gigaoperations a clip."""
    counts = {c: operations.of_step(tiny(c, backbone="B/32", batch=128)) for c in ("none", "ast", "towers")}
    assert [round(sum(parts.values()) / 1e12, 1) for parts in counts.values()] == [78.2, 44.8, 3.0]
    assert counts["none"]["ast"] == pytest.approx(128 * 260e9, rel=0.01)
    assert counts["none"] == counts["ast"] | {"ast": counts["none"]["ast"]}


def test_step_heads_and_memory_print_and_write_their_figures(tmp_path, capsys):
    # Stored towers of the vision model: one small program, which all three compile and find among those kept.
    path, sizes = tmp_path / "found.json", "--model vision --backbone tiny --batch 8"
    bench.main(f"step {sizes} --cache towers --rounds 2 --steps 2 --json {path}".split())
    (row,) = json.loads(path.read_text())["rows"]
    assert row["cache"] == "towers"
    assert 0 < row["step"]["min"] <= row["step"]["median"] <= row["step"]["max"]
    assert row["operations"] == sum(operations.of_step(tiny("towers", model="vision", batch=8)).values())
    assert row["rate"] == pytest.approx(row["operations"] / row["step"]["median"])
    assert row["share_of_matrix_rate"] == pytest.approx(row["rate"] / row["matrix_rate"])
    assert row["bytes"] > 0
    assert "heads only" in capsys.readouterr().out
    bench.main(f"heads {sizes} --clips 12 --rounds 2 --json {path}".split())
    found = json.loads(path.read_text())
    assert found["pairs_per_second"] == pytest.approx(8 / found["step"]["median"])
    assert found["minutes_at_this_rate"] == pytest.approx(7030 * found["step"]["median"] / 60)
    assert "at this rate MSR-VTT-9k's 7,030 steps would take" in capsys.readouterr().out
    bench.main(f"memory {sizes} --cache towers --micro-batches 0,8 --remats none --json {path}".split())
    assert [row["micro_batch"] for row in json.loads(path.read_text())["rows"]] == [0, 8]


def test_a_first_step_in_a_process_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")  # one device
    args = SimpleNamespace(model="vision", backbone="tiny", batch=2, dtype="float32", micro_batch=0, remat="none")
    args.attention = "xla"
    found = bench_step.first_in_process(args, "towers", str(tmp_path))
    assert found["seconds"] > 0 and np.isfinite(found["loss"])
    assert list(tmp_path.iterdir())  # compiled programs were kept there
    args.remat = "all"
    started = bench_step.start_up(args, "towers")  # what `step` prints and keeps beside the row
    assert started.keys() == {"failed"} and "invalid choice: 'all'" in started["failed"]


def test_products_fill_about_a_round_of_steps():
    one = 2 * 2048**3
    assert [timing.saturating(work, "cpu") for work in (1, 5 * one, 10**18)] == [(2048, 1), (2048, 5), (2048, 32)]
    assert timing.saturating(40 * one, "gpu") == (8192, 1)
    products, work = timing.matrix_product(64, count=3)
    assert work == 3 * 2 * 64**3
    a = timing.matrix_product(64, count=0)[0]()
    np.testing.assert_allclose(products(), np.linalg.matrix_power(np.asarray(a), 4), atol=1e-4)


def test_input_prints_and_writes_its_figures(tmp_path):
    path = tmp_path / "input.json"
    sizes = "--clips 9 --captions 2 --frames 2 --image-size 32 --batch 4 --batches 2 --rounds 2"
    bench.main(f"input {sizes} --threads 1,2 --workers 0 --step-ms 1 --json {path}".split())
    rows = json.loads(path.read_text())["rows"]
    assert [(row["threads"], row["workers"]) for row in rows] == [(1, 0), (2, 0)]
    for row in rows:
        assert 0 < row["min"] <= row["median"] <= row["max"]
        assert 0 <= row["waited"] < 1


def test_a_final_evaluation_is_timed_beside_one_pass(tmp_path, capsys):
    workdir = make_run(tmp_path, "vision,audio,speech", plain_clips(8))
    bench.main(f"evaluation {workdir} --rounds 1 --json {tmp_path / 'evaluation.json'}".split())
    [row] = json.loads((tmp_path / "evaluation.json").read_text())["rows"]
    assert row["clips"] == 8 and row["pass"]["rounds"] == row["evaluation"]["rounds"] == 1
    assert row["ratio"] == row["evaluation"]["median"] / row["pass"]["median"]
    assert 2 <= row["decoded_per_clip"] <= 4  # once for the ranks, and a few for the audit, padding included
    assert "8 clips: one pass and scoring" in capsys.readouterr().out
