"""One layer of the full-width model, compiled for TPUs and GPUs that are not there. Extra `aot`, its own environment.

What must not come back unseen: a new collective, a frozen parameter that is gathered, products of float32 where
bfloat16 was asked for, memory. The figures are those of the pinned versions for Python 3.11.
"""

import jax
import jax.numpy as jnp
import pytest

from save_jax.bench import compile as bench_compile
from save_jax.bench import hlo, programs, topologies
from save_jax.config.finding import read_config
from save_jax.models import attention
from save_jax.training import resident

MIB = 2**20
# (topology, recipe) → GiB on a device; MiB of each collective. What is below a MiB is not looked at.
EXPECTED = {
    ("v5e-8", "towers"): (0.55, {"all-reduce": 35, "all-gather": 2}),
    ("h100x8", "live"): (1.08, {"all-reduce": 58, "all-gather": 1}),
    ("h100x8", "fsdp"): (0.72, {"all-gather": 80, "all-reduce": 5, "reduce-scatter": 53}),
}


@pytest.fixture(scope="module", autouse=True)
def _no_devices_of_its_own():
    topologies.quiet()


@pytest.mark.parametrize(("topology", "recipe"), EXPECTED)
def test_a_step_has_the_memory_and_the_collectives_that_it_had(topology, recipe):
    row = bench_compile.compiled_row(topology, recipe, batch=128, layers=1)
    gib, collectives = EXPECTED[topology, recipe]
    assert "problem" not in row
    assert row["bytes_in_all"] / 2**30 < 1.1 * gib
    moved = {kind: round(x["bytes"] / MIB) for kind, x in row["collectives"].items() if x["bytes"] > MIB}
    assert moved.keys() == collectives.keys()
    assert all(moved[kind] <= 1.1 * size + 1 for kind, size in collectives.items()), moved
    if recipe == "fsdp":  # kernels are gathered, and their gradients scattered, in bfloat16
        for kind in ("all-gather", "reduce-scatter"):
            types = row["collectives"][kind]["types"]
            assert types["f32"] < 0.2 * types["bf16"], (kind, types)
    exact = row["products"].pop("f32·f32", 0)  # the score and the loss alone, which are exact in every dtype
    assert exact < 1e-3 * sum(row["products"].values())


@pytest.mark.parametrize(
    ("queries", "keys", "causal", "masked"),
    [
        *((n, n, False, False) for n in (1214, 197, 257, 15)),
        *((n, n, True, False) for n in (32, 77)),
        (15, 32, False, False),
        (15, 15, False, True),
    ],
)
def test_cudnn_has_a_kernel_for_every_length(queries, keys, causal, masked):
    """B/16 has 197 tokens and L/14 257, 15 frames are odd as well, and cuDNN trains on even lengths alone."""
    mesh = topologies.mesh_of("h100x1")
    one = jax.sharding.SingleDeviceSharding(mesh.devices.flat[0])
    q, k = (jax.ShapeDtypeStruct((4, n, 8, 64), jnp.bfloat16, sharding=one) for n in (queries, keys))
    mask = jax.ShapeDtypeStruct((4, keys), bool, sharding=one) if masked else None

    def total(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array | None) -> jax.Array:
        return attention.attend(q, k, v, "cudnn", causal, mask).astype(jnp.float32).sum()

    with topologies.cudnn_of(mesh):
        compiled = jax.jit(jax.grad(total, (0, 1, 2))).lower(q, k, k, mask).compile()
    kernels = hlo.read(compiled.as_text()).kernels
    assert [name for name in kernels if "fmha" in name and "Backward" in name], kernels


def test_the_devices_of_the_mesh_decide_the_kernel():
    """None of them is in this machine, whose own default is a CPU."""
    config = read_config("msrvtt")
    config.model.dtype = "bfloat16"
    found = {}
    for name in ("v5e:2x2", "h100x1"):
        mesh = topologies.mesh_of(name)
        with topologies.cudnn_of(mesh):
            found[name] = attention.kernel_for(config, mesh)
    assert found == {"v5e:2x2": "tpu", "h100x1": "cudnn"}
    assert attention.kernel_for(config, topologies.mesh_of("h100x1")) == "xla"  # this machine has no cuDNN
    with pytest.raises(ValueError, match="cudnn needs an NVIDIA GPU, and the model runs on tpu here"):
        config.model.attention = "cudnn"
        attention.kernel_for(config, topologies.mesh_of("v5e:2x2"))


def test_a_gpu_that_cannot_says_what_it_lacks(monkeypatch):
    config, mesh = read_config("msrvtt"), topologies.mesh_of("h100x1")
    config.model.attention = "cudnn"
    with pytest.raises(ValueError, match=r"cudnn computes in bfloat16, and config.model.dtype is float32"):
        attention.kernel_for(config, mesh)
    config.model.dtype = "bfloat16"
    with pytest.raises(
        ValueError, match=r"JAX cannot use cuDNN's attention \(.*; install save_jax with the extra cuda12"
    ):
        attention.kernel_for(config, mesh)
    *rest, _ = topologies._GPU_CONFIGS["a100"]
    monkeypatch.setitem(topologies._GPU_CONFIGS, "a100", (*rest, 7))  # as a V100 has
    with pytest.raises(ValueError, match=r"bfloat16 needs an NVIDIA GPU of compute capability 8.0, this has 7.0"):
        attention.kernel_for(config, topologies.mesh_of("a100x1"))


@pytest.mark.parametrize("recipe", ["live", "ast"])
def test_a_batch_out_of_resident_tables_copies_no_table_on_a_tpu(recipe, monkeypatch):
    mesh, config = topologies.mesh_of("v5e:2x2"), programs.config_of(recipe, 32)

    def temporary() -> int:
        compiled = programs.lower(f"gather+{recipe}", config, mesh).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporary() < 0.6 * 2**30  # a batch of pictures in another layout
    monkeypatch.setattr(resident, "LONG", 1 << 60)  # rows as they come
    assert temporary() > 1.5 * 2**30


def test_what_does_not_fit_says_by_how_much_and_what_to_try(monkeypatch):
    monkeypatch.setitem(topologies.CHIPS, "h100", topologies.Chip(989e12, 3350e9, 2**20, 450e9, share=0.5))
    row = bench_compile.compiled_row("h100x8", "text", batch=64, layers=1)
    assert "GiB of 0.00" in row["problem"] and "too many; lower --batch" in row["problem"]


@pytest.mark.parametrize(
    "message",
    [
        "RESOURCE_EXHAUSTED: Used 40.50G of 15.75G hbm. Exceeded hbm capacity by 24.75G.",
        "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (40.50G) exceeds "
        "available HBM (15.75G).",
    ],
)
def test_a_tpu_compilers_refusal_is_read(message):
    """Both are its own words."""
    said = bench_compile._problem(message, "B/16+fsdp")
    assert "40.50 GiB of 15.75, 24.75 too many; try B/16+fsdp+remat, or +micro, +ast" in said


def test_names_that_no_cloud_has_are_refused():
    with pytest.raises(ValueError, match=r"there is no topology 'v5e:3x5'"):
        topologies.mesh_of("v5e:3x5")
    assert topologies.mesh_of("v5litepod-8").size == topologies.mesh_of("V5E-8").size == 8
