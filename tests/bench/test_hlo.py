"""The reader of compiled programs, on programs whose collectives and products are known."""

import importlib.util

import jax
import jax.numpy as jnp
import pytest

from save_jax import sharding
from save_jax.bench import hlo, programs, topologies


def test_collectives_products_and_loops_are_counted():
    """Three products in a loop, each of 8 rows a device, then a sum over two devices."""
    mesh = sharding.make_mesh(jax.devices()[:2])

    def run(x: jax.Array, w: jax.Array) -> tuple[jax.Array, jax.Array]:
        multiplied, _ = jax.lax.scan(lambda x, _: (x @ w, None), x, None, length=3)
        return multiplied.sum(axis=0), jax.lax.with_sharding_constraint(x, sharding.replicated(mesh))

    shapes = [
        jax.ShapeDtypeStruct((16, 32), jnp.float32, sharding=sharding.by_sample(mesh)),
        jax.ShapeDtypeStruct((32, 32), jnp.float32, sharding=sharding.replicated(mesh)),
    ]
    program = hlo.read(jax.jit(run).lower(*shapes).compile().as_text())
    assert program.collectives["all-gather"] == {"count": 1, "bytes": 16 * 32 * 4, "types": {"f32": 16 * 32 * 4}}
    assert program.collectives["all-reduce"] == {"count": 1, "bytes": 32 * 4, "types": {"f32": 32 * 4}}
    assert program.products == {"f32·f32": 3 * 2 * 8 * 32 * 32}


TEXT = """HloModule m

ENTRY %main (a: bf16[4,8], b: f32[64]) -> f32[8] {
  %a = bf16[4,8]{1,0} parameter(0)
  %b = f32[64]{0} parameter(1)
  %c = f32[16]{0} parameter(2)
  %gather = ((bf16[4,8]{1,0}, f32[64]{0}), (bf16[32,8]{1,0}, f32[512]{0})) all-gather-start(%a, %b), channel_id=1
  %one = (bf16[4,8]{1,0}, bf16[32,8]{1,0}) all-gather-start(%a), channel_id=2, dimensions={0}
  %all = (f32[64]{0}, f32[16]{0}) all-reduce-start(%b, %c), channel_id=3, to_apply=%add
  ROOT %scatter = f32[8]{0} reduce-scatter(%b), channel_id=4, dimensions={0}, to_apply=%add
}
"""


def test_a_collective_counts_the_whole_array_whichever_way_it_is_written():
    """What starts and is waited for later names operands and results; what is scattered was larger before."""
    got = hlo.read(TEXT).collectives
    assert got["all-gather"]["types"] == {"bf16": 2 * 32 * 8 * 2, "f32": 512 * 4} and got["all-gather"]["count"] == 2
    assert got["all-reduce"]["types"] == {"f32": (64 + 16) * 4}
    assert got["reduce-scatter"]["types"] == {"f32": 64 * 4}


def test_a_convolution_counts_its_window():
    x = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)
    w = jax.ShapeDtypeStruct((3, 3, 3, 5), jnp.float32)
    layout = ("NHWC", "HWIO", "NHWC")
    conv = jax.jit(lambda x, w: jax.lax.conv_general_dilated(x, w, (1, 1), "VALID", dimension_numbers=layout))
    text = conv.lower(x, w).compile().as_text()
    if "convolution(" not in text:  # a CPU may call a library instead
        text = conv.lower(x, w).compiler_ir("hlo").as_hlo_text()
    program = hlo.read(text)
    assert program.products == {"f32·f32": 2 * (2 * 6 * 6 * 5) * 27}


@pytest.mark.parametrize(
    ("operation", "part"),
    [
        ("jit(train_step)/jvp(Retrieval)/Retrieval.encode_audio/ast.trunk/block_0/mlp/mul", "ast"),
        ("jit(train_step)/transpose(jvp(Retrieval))/vision/block_3/mlp/fc/dot_general", "vision backward"),
        ("jit(train_step)/jvp(vtd,qd->vtq)/dot_general", "loss"),
        ("jit(train_step)/sqrt", "optimiser and the rest"),
    ],
)
def test_the_part_of_an_operation(operation, part):
    assert hlo.part_of(operation) == part


def test_names_that_do_not_exist_name_those_that_do():
    with pytest.raises(ValueError, match=r"no topology 'v9:2x2'; known are v4-8, .*h100x8"):
        topologies.chip_of("v9:2x2")
    with pytest.raises(ValueError, match=r"'fsdq' is none of the programs step, .* settings live, .*fsdp"):
        programs.words_of("live+fsdq")
    names = ("v5e-32", "v4:2x2x2", "h200x1", "h100x2x8")
    assert [topologies.chip_of(name) for name in names] == ["v5e", "v4", "h200", "h100"]


def test_a_missing_compiler_is_named_with_its_extra(monkeypatch):
    """JAX's own words name neither package nor command."""
    if importlib.util.find_spec("libtpu"):
        monkeypatch.setattr(topologies.topologies, "get_topology_desc", absent)
        monkeypatch.setitem(topologies.COMPILERS, "tpu", ("no_such_package",))
    with pytest.raises(ValueError, match=r"The compilers come with the extra aot: pip install"):
        topologies.mesh_of("v5e-8")


def absent(**_: object) -> None:
    raise RuntimeError("JAX TPU support not installed")


def test_a_recipe_is_a_config():
    config = programs.config_of("B/16+fsdp+micro+remat", 64)
    assert (config.sharding, config.micro_batch, config.model.remat) == ("fsdp", 16, "blocks")
    assert (config.model.patch_size, config.model.dtype) == (16, "bfloat16")
    assert programs.config_of("ast+float32", 64, layers=1).model.ast_layers == 1
    assert programs.counted("top_k", config) is None and programs.counted("live", config) > 1e12
