"""The bench of VLSA's pre-training: the work counted is that of the program, and its figures add up."""

import json
from types import SimpleNamespace

import jax
import pytest
from helpers.jaxprs import products

from save_jax import sharding
from save_jax.bench import command as bench
from save_jax.bench import vlsa as bench_vlsa
from save_jax.config import resolve
from save_jax.models import operations, trees
from save_jax.models.vlsa import make_model
from save_jax.training import state
from save_jax.training.step import loss_of_batch
from save_jax.training.vlsa_objectives import Pretraining

OPTIONS = {"small": True, "batch": 8, "micro_batch": 0, "dtype": "float32", "remat": "none", "attention": "xla"}


def small(way: str, **changes: object):
    """The config that `bench vlsa --small` runs, changed."""
    config = bench_vlsa.config_of(SimpleNamespace(**OPTIONS), way).copy_and_resolve_references().unlock()
    config.update_from_flattened_dict(changes)
    return resolve(config)


@pytest.mark.parametrize(("way", "matching_reads"), [("visible", "visible"), ("visible", "all"), ("all", "visible")])
def test_operations_are_those_of_the_program(way, matching_reads):
    """Every product of the gradient that JAX traces, in exact numbers, and XLA's own count, which has all else, too.

    That is 2 % at this width, and less at ViT-Base's.
    """
    sizes = {"model.width": 256, "model.heads": 2, "model.decoder_width": 192, "model.layers": 2, "batch_size": 3}
    config = small(way, **sizes, **{"loss.matching_reads": matching_reads})
    model = make_model(config, sharding.make_mesh())
    params = trees.flatten(jax.eval_shape(lambda key: state.init_params(model, config, key), jax.random.key(0)))
    batch = {name: jax.ShapeDtypeStruct(*spec) for name, spec in bench_vlsa.batch_shapes(config).items()}
    objective = Pretraining(model, config)
    gradient = jax.grad(lambda flat, batch: loss_of_batch(objective, trees.unflatten(flat), batch)[0])
    traced = jax.jit(gradient).trace(params, batch)
    counted = sum(operations.of_pretraining(config).values())
    seen = 2 * 4 + 10 + 4 if way == matching_reads == "visible" else 2 * 16 + 12 + 16
    means = 2 * 2 * 3 * seen * 256  # over tokens, and their gradients: elementwise work that is written as a product
    assert counted + means == products(traced.jaxpr.jaxpr)
    assert 1 <= traced.lower().cost_analysis()["flops"] / counted < 1.03


def test_without_a_term_its_passes_are_not_counted():
    whole = operations.of_pretraining(small("visible"))
    masked = operations.of_pretraining(small("visible", **{"loss.matching": 0.0}))
    matching = operations.of_pretraining(small("visible", **{"loss.masked": 0.0}))
    assert whole.keys() == masked.keys() | matching.keys()
    assert whole["projections"] == 2 * masked["projections"] == 2 * matching["projections"]


def test_work_of_a_sample_of_vit_base():
    """Gigaoperations as counted by hand: 490 of 1,864 tokens, joint and apart, and 1,864 in the decoder."""
    configs = {
        way: bench_vlsa.config_of(SimpleNamespace(**OPTIONS | {"small": False, "batch": 1}), way)
        for way in bench_vlsa.WAYS
    }
    counts = {way: operations.of_pretraining(config) for way, config in configs.items()}
    assert counts["visible"]["joint"] == 3 * 12 * (24 * 490 * 768**2 + 4 * 490**2 * 768)
    assert counts["all"]["joint"] == 3 * 12 * (24 * 1864 * 768**2 + 4 * 1864**2 * 768)
    totals = {way: sum(parts.values()) for way, parts in counts.items()}
    assert totals["visible"] == pytest.approx(960.1e9, rel=1e-3)
    assert totals["all"] / totals["visible"] == pytest.approx(3.11, abs=0.01)


def test_it_prints_and_writes_its_figures(tmp_path, monkeypatch, capsys):
    path, mesh = tmp_path / "vlsa.json", sharding.make_mesh(jax.devices()[:1])  # for eight, it compiles for a minute
    monkeypatch.setattr(sharding, "make_mesh", lambda devices=None: mesh)
    bench.main(f"vlsa --small --batch 8 --rounds 2 --steps 2 --json {path}".split())
    found = json.loads(path.read_text())
    visible, everything = found["rows"]
    assert found["ratio"] == pytest.approx(everything["step"]["median"] / visible["step"]["median"])
    assert found["ratio_of_operations"] == everything["operations"] / visible["operations"] > 1
    for row in found["rows"]:
        assert 0 < row["step"]["min"] <= row["step"]["median"] <= row["step"]["max"]
        counted = operations.of_pretraining(small(row["encoder_reads"]))
        assert row["parts"] == counted and row["operations"] == sum(counted.values())
        assert row["rate"] == pytest.approx(row["operations"] / row["step"]["median"])
        assert row["share_of_matrix_rate"] == pytest.approx(row["rate"] / row["matrix_rate"])
        assert row["bytes_compiled"] > 0
    assert everything["parameters"] - visible["parameters"] == 32  # the token in place of masked ones
    assert found["batch"] == found["settings"]["batch"] == 8
    assert "times as fast" in capsys.readouterr().out


def test_what_does_not_fit_is_refused(monkeypatch):
    numbers = jax.ShapeDtypeStruct((2**20,), "float32")
    programs = {way: jax.jit(lambda x: 2 * x).lower(numbers).compile() for way in bench_vlsa.WAYS}  # 4 MiB in, 4 out
    monkeypatch.setattr(bench_vlsa.os, "sysconf", {"SC_PAGE_SIZE": 2**20, "SC_PHYS_PAGES": 12}.get)
    bench_vlsa.check_memory(programs)
    monkeypatch.setattr(bench_vlsa.os, "sysconf", {"SC_PAGE_SIZE": 2**20, "SC_PHYS_PAGES": 11}.get)
    with pytest.raises(ValueError, match=r"reads visible tokens needs .* GiB.*--micro-batch"):
        bench_vlsa.check_memory(programs)
