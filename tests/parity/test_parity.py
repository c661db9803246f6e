"""Golden parity: every number of tests/golden that the authors' code computed, through the parity commands."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.places import GOLDEN

from data_prep.commands import parity as preparation
from save_jax.config import model_sizes
from save_jax.data import golden as golden_files
from save_jax.judge import metrics
from save_jax.models.clip import normalize_pixels
from save_jax.models.retrieval import Retrieval
from save_jax.parity import command as parity
from save_jax.parity import fixtures
from save_jax.parity import metrics as parity_metrics
from save_jax.parity.input_path import twin_of_records
from save_jax.parity.reruns import outputs
from save_jax.weights import convert
from save_jax.weights import sizes as weight_sizes

# Smallest number of lines that a table must have: a check that compares nothing also finds nothing wrong.
FILES = {
    "save_tiny_train": 430, "save_tiny_optim": 800, "save_tiny_debug": 15,
    "avigate_tiny": 310, "avigate_tiny_optim": 590, "avigate_tiny_debug": 11, "metrics": 100,
}  # fmt: skip


@pytest.fixture(scope="module")
def checker() -> parity.Checker:
    return parity.Checker("float32")


@pytest.mark.parametrize("name", FILES)
def test_the_model_repeats_the_authors_numbers(checker, name):
    rows = checker.rows(fixtures.load(GOLDEN / f"{name}.npz"))
    assert not [row for row in rows if row.failed]
    assert sum(row.verdict == "ok" for row in rows) >= FILES[name]


@pytest.mark.parametrize(("name", "lines"), [("frames", 29), ("fbank", 14)])
def test_the_preparation_repeats_the_authors_numbers(name, lines, capsys):
    assert preparation.main([str(GOLDEN / f"{name}.npz")]) == 0
    assert f"{lines} of {lines} hold" in capsys.readouterr().out


def test_pixels_are_normalised_as_by_the_authors():
    golden = np.load(GOLDEN / "frames.npz")
    names = [name for name in golden.files if name.endswith("output_chw")]
    assert len(names) == 6
    for name in names:
        ours = normalize_pixels(
            jnp.asarray(golden[name.replace("output_chw", "cropped_uint8_hwc")]), jnp.dtype("float32")
        )
        np.testing.assert_allclose(ours.transpose(2, 0, 1), golden[name], atol=2e-6)


# ---------------------------------------------------------------- the check sees what is wrong


def changed(fixture: fixtures.Fixture, **changes) -> fixtures.Fixture:
    return fixtures.Fixture(fixture.path, fixture.arrays | {name.replace("__", "/"): x for name, x in changes.items()})


def failures(rows) -> set[str]:
    return {row.quantity for row in rows if row.failed}


def test_a_wrong_output_gradient_or_name_is_seen(checker):
    fixture = fixtures.load(GOLDEN / "save_tiny_train.npz")
    gates, gradient = fixture.arrays["out/audio_attn_gates"].copy(), fixture.arrays["grad/query_tokens"].copy()
    gates[1, 0] += 2e-4
    gradient[5, 3] += 3e-3 * np.abs(gradient).max()
    stat = fixture.arrays["gradstat"].copy()
    stat[0, 3] += 2e-3 * stat[0, 0]
    first = fixture.meta["gradstat_names"][0]
    wrong = changed(
        fixture,
        out__audio_attn_gates=gates,
        out__loss_pearson=fixture.arrays["out/loss_pearson"] * (1 + 3e-5),
        out__mood=np.zeros(3),
        out__margin=fixture.arrays["out/margin"][:3],
        grad__query_tokens=gradient,
        gradstat=stat,
        surprise=np.zeros(2),
    )
    outputs = {"audio_attn_gates", "loss_pearson", "out/mood", "margin: shape (4, 4), should be (3, 4)"}
    others = {"grad/query_tokens", f"gradstat {first}", "surprise"}
    assert failures(checker.rows(wrong)) == outputs | others | {f"from records: {name}" for name in outputs}


def test_a_gradient_that_the_reference_does_not_have_is_seen(checker):
    """Something that should be frozen and is not."""
    fixture = fixtures.load(GOLDEN / "avigate_tiny.npz")
    meta = fixture.meta
    stat = fixture.arrays["gradstat"][1:]
    meta["gradstat_names"] = meta["gradstat_names"][1:]
    found = failures(checker.rows(changed(fixture, gradstat=stat, meta_json=np.array(json.dumps(meta)))))
    assert found == {"gradients that the file lacks: clip.audio.v.norm.bias"}


def test_a_wrong_step_of_the_optimiser_is_seen(checker):
    fixture = fixtures.load(GOLDEN / "avigate_tiny_optim.npz")
    initial = fixtures.load(GOLDEN / "save_tiny_train.npz").arrays["w/clip.audio_projection"]
    larger = initial + 1.05 * (fixture.arrays["p2/clip.audio_projection"] - initial)
    rates = fixture.arrays["lr_table"].copy()
    rates[0, 5] *= 1.001
    found = failures(checker.rows(changed(fixture, **{"p2__clip.audio_projection": larger, "lr_table": rates})))
    assert found == {"change p2/clip.audio_projection", "lr_table, each row over its largest"}


def test_metrics_that_are_not_known_or_wrong_are_seen():
    arrays = fixtures.load(GOLDEN / "metrics.npz").arrays
    arrays |= {
        "square/t2v/R1": arrays["square/t2v/R1"] + 0.01,
        "square/t2v/R50": np.array(1.0),
        "square/odd": np.ones(1),
    }
    assert failures(parity_metrics.rows(arrays)) == {"square/t2v/R1", "square/t2v/R50", "square/odd"}


def test_preparation_that_is_not_known_or_wrong_is_seen(tmp_path, capsys):
    arrays = dict(np.load(GOLDEN / "frames.npz")) | {"mystery": np.zeros(2)}
    arrays["max12/slice2"] = arrays["max12/slice2"] + (arrays["max12/slice2"] == 0)
    np.savez(tmp_path / "frames.npz", **arrays)
    assert preparation.main([str(tmp_path / "frames.npz")]) == 1
    out = capsys.readouterr().out
    assert (
        "WRONG" in out.split("max12/slice2")[1].split("\n")[0] and "UNKNOWN" in out.split("mystery")[1].split("\n")[0]
    )


def test_the_command(tmp_path, capsys):
    metrics_file = str(GOLDEN / "metrics.npz")
    assert parity.main([metrics_file, str(GOLDEN / "frames.npz")]) == 0
    out = capsys.readouterr().out
    assert "108 of 108 hold" in out and "python -m data_prep.parity checks them" in out
    assert parity.main([metrics_file, "--failed-only", "--precision=default", f"--json={tmp_path / 'found.json'}"]) == 0
    assert capsys.readouterr().out.count("\n") == 5  # what is computed, where; file, head and sums
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["files"] == [{"file": "metrics.npz", "lines": 108, "failed": 0}]
    assert (found["precision"], found["allowed"], found["device"]) == ("default", "float32", "cpu")
    arrays = dict(np.load(metrics_file))
    arrays["ties/v2t/MR"] = arrays["ties/v2t/MR"] + 1
    np.savez(tmp_path / "m.npz", **arrays)
    assert parity.main([metrics_file, str(tmp_path / "m.npz")]) == 1
    assert "1 DO NOT" in capsys.readouterr().out
    np.savez(tmp_path / "o.npz", **{"dbg/text_block0": np.zeros((1, 2, 3))})
    for path, message in ((tmp_path / "none.npz", "no golden file at"), (tmp_path / "o.npz", "holds no inputs")):
        assert parity.main([str(path)]) == 2
        assert message in capsys.readouterr().err


# ---------------------------------------------------------------- files and sizes


def test_parts_are_merged_by_name(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.ones(2))
    np.savez(tmp_path / "a.part2.npz", y=np.zeros(3))
    np.savez(tmp_path / "ab.npz", z=np.zeros(3))
    assert fixtures.gather([f"{tmp_path}/a.part2.npz", f"{tmp_path}/a.npz"]) == [tmp_path / "a.npz"]
    assert fixtures.load(tmp_path / "a.part2.npz").arrays.keys() == {"x", "y"}
    assert golden_files.read(tmp_path / "a.part2.npz").keys() == {"x", "y"}
    np.savez(tmp_path / "a.part3.npz", x=np.ones(2))
    with pytest.raises(ValueError, match=r"a\.part3\.npz repeats x of another part"):
        fixtures.load(tmp_path / "a.npz")


SIZES = {
    "embed_dim": 64, "head_dim": 64, "image_size": 24, "patch_size": 8, "vision_width": 128, "vision_layers": 1,
    "text_width": 64, "text_layers": 2, "vocab_size": 50, "context_length": 20, "ast_width": 48, "ast_layers": 1,
    "ast_heads": 3, "ast_patch": (16, 16), "ast_stride": (10, 10), "queries": 5, "resampler_layers": 1,
    "fusion_layers": 1,
}  # fmt: skip


def embeddings(twin: fixtures.Twin) -> dict[str, np.ndarray]:
    texts, video, _ = jax.jit(twin.model.apply)({"params": twin.params}, twin.batch)
    return {"text_embedding": np.asarray(texts, np.float32), "fused_tokens": np.asarray(video.fused, np.float32)}


def made_fixture(folder: Path) -> Path:
    """An AVIGATE file of other sizes in two parts. Its outputs are our own: only how files and sizes are read shows."""
    rng = np.random.default_rng(3)
    inputs = {
        "text_ids": np.array([[48, 3, 9, 49, 0], [48, 49, 0, 0, 0], [48, 7, 7, 7, 49]], np.int32),
        "video": rng.normal(size=(3, 2, 3, 24, 24)).astype(np.float32),
        "video_mask": np.array([[1, 1], [1, 0], [1, 1]], np.int32),
        "fbank": rng.normal(size=(3, 66, 128)).astype(np.float32),
        "audio_mask": np.array([1, 1, 0], np.int32),
    }
    config = weight_sizes.config_for(SIZES | {"branches": "vision,audio"}, max_words=5, max_frames=2)
    batch = {name: jnp.asarray(inputs[name]) for name in ("text_ids", "fbank")} | {
        "frames": jnp.zeros((3, 2, 24, 24, 3)),
        "frame_mask": jnp.ones((3, 2), bool),
    }
    shapes = jax.eval_shape(Retrieval(model_sizes(config)).init, jax.random.key(0), batch)["params"]
    params = jax.tree.map(lambda x: rng.normal(0.02, 0.2, x.shape).astype(np.float32), shapes)
    meta = {"config": {"ast_heads": 3, "margin": 0.05, "beta": 0.3}, "model": "AVIGATE"}
    arrays = {f"in/{name}": x for name, x in inputs.items()} | {"meta_json": np.array(json.dumps(meta))}
    weights = convert.to_official(params, convert.RULES["avigate"])
    np.savez(folder / "other.part2.npz", **{f"w/{name}": x for name, x in weights.items()})
    np.savez(folder / "other.npz", **arrays)
    twin = fixtures.twin(fixtures.load(folder / "other.npz"), "float32")
    np.savez(folder / "other.npz", **arrays, **{f"out/{name}": x for name, x in embeddings(twin).items()})
    return folder / "other.npz"


def test_other_sizes_and_the_other_precision(tmp_path):
    fixture = fixtures.load(made_fixture(tmp_path))
    twin = fixtures.twin(fixture, "float32")
    assert twin.kind == "avigate"
    assert {name: twin.config.model[name] for name in SIZES} == SIZES
    assert (twin.config.loss.delta, twin.config.loss.beta) == (0.05, 0.3)
    rough = embeddings(fixtures.twin(fixture, "bfloat16"))
    assert not failures(parity.forward_rows(fixture, rough, parity.TOLERANCES["bfloat16"]))
    assert failures(parity.forward_rows(fixture, rough, parity.TOLERANCES["float32"])) == rough.keys()


# ---------------------------------------------------------------- where ours differs on purpose, both are shown


def test_ties_and_nan_flatter_the_reference_and_not_ours():
    scores = np.array([[0.5, 0.5, 0.1], [0.2, 0.9, 0.9], [0.3, 0.1, 0.0]])
    targets = np.arange(3)
    np.testing.assert_array_equal(metrics.ranks(scores, targets), [2, 2, 3])
    np.testing.assert_array_equal(parity_metrics.ranks_for(scores, targets), [1, 1, 3])
    reference = parity_metrics.ranks_all(scores, targets)
    np.testing.assert_array_equal(reference, [1, 2, 1, 2, 3])  # two of its five entries are hits
    scores[2, 2] = np.nan
    order = np.sort(-scores, axis=1)
    found = np.where(order - -np.diag(scores)[:, None] == 0)[1]  # the reference's lines
    assert len(found) == 4 and 100 * np.mean(found == 0) == 50  # the failed query is gone: 50 % where 2 of 3 tie
    with pytest.raises(ValueError, match="1 of 9 scores are NaN"):
        metrics.ranks(scores, targets)


def test_dual_softmax_by_hand_and_the_reference_s_mistake():
    scores = np.array([[3.0, 0.0], [3.0, 2.0]])
    weights = np.exp(scores / 3) / np.exp(scores / 3).sum(axis=0)
    np.testing.assert_allclose(metrics.dual_softmax(scores), scores * weights)
    assert not np.allclose(parity_metrics.dual_softmax_of_prior(scores, scores.T), scores * weights)


# ---------------------------------------------------------------- accelerators


@pytest.mark.parametrize("kernel", ["xla", "tpu"])
def test_attention_of_accelerators_repeats_the_authors_numbers(kernel):
    """Their kernels, on this CPU, also through the input path."""
    fixture = fixtures.load(GOLDEN / "avigate_tiny.npz")
    twin = fixtures.twin(fixture, "float32")
    assert twin.model.kernel == "cpu"  # this machine's
    stored = twin_of_records(dataclasses.replace(twin, model=twin.model.clone(kernel=kernel)))
    assert stored.model.kernel == kernel
    arrays = {name: x for name, x in fixture.arrays.items() if not name.startswith("out/grad_")}
    with jax.default_matmul_precision("highest"):
        ours = outputs(stored)
    rows = [*parity.forward_rows(fixtures.Fixture(fixture.path, arrays), ours, parity.TOLERANCES["float32"])]
    assert len(rows) == 20 and not failures(rows)
