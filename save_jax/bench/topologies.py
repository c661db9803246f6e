"""TPUs and NVIDIA GPUs that are not in this machine, for XLA's compilers, which need none. Extra `aot`.

A compiler proves that a program is traced, partitioned and fits into memory, and which kernels and collectives it has.
It proves no number and no time: its cycles are a cost model.
"""

import dataclasses
import importlib.util
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import jax
from jax.experimental import topologies
from jax.sharding import Mesh

from save_jax import sharding
from save_jax.models import attention


@dataclasses.dataclass(frozen=True)
class Chip:
    """What the maker's data sheet says of one device. `clock` is that of the compiler's cycles; None: it gives none."""

    flops: float  # products of bfloat16, summed in float32, a second
    bandwidth: float  # bytes a second of its memory
    memory: float  # bytes
    links: float  # bytes a second to other devices, one direction
    clock: float | None = None  # GHz
    share: float = 1.0  # of its memory that JAX takes


CHIPS = {
    "v4": Chip(275e12, 1228e9, 32 * 2**30, 150e9, 1.05),
    "v5e": Chip(197e12, 819e9, 16 * 2**30, 100e9, 1.5),
    "v5p": Chip(459e12, 2765e9, 95 * 2**30, 300e9, 1.75),
    "v6e": Chip(918e12, 1640e9, 32 * 2**30, 224e9, 1.75),
    "a100": Chip(312e12, 2039e9, 80e9, 300e9, share=0.75),
    "h100": Chip(989e12, 3350e9, 80e9, 450e9, share=0.75),
    "h200": Chip(989e12, 4800e9, 141e9, 450e9, share=0.75),
}
TPUS = tuple(name for name in CHIPS if name.startswith("v"))
GPUS = tuple(name for name in CHIPS if name not in TPUS)
# A slice as clouds rent it → the compiler's name of it. A v4 and a v5p chip are two there, and one device of JAX.
SLICES = {
    "v4-8": "v4:2x2x1",
    "v5e-8": "v5e:2x4",
    "v5e-32": "v5e:4x8",
    "v5p-8": "v5p:2x2x1",
    "v6e-4": "v6e:2x2",
    "v6e-8": "v6e:2x4",
}
COMPILERS = {"tpu": ("libtpu",), "cuda": ("jax_cuda12_plugin", "jax_cuda13_plugin")}  # packages that bring them
_OPTIONS = {"v4": {"chip_config_name": "megacore"}}

# Name, cores, memory clock and sizes as XLA's GpuTargetConfigProto has them.
_GPU_CONFIGS = {
    "a100": ("NVIDIA A100-SXM4-80GB", 108, 2039000000000, 41943040, 1.41, 84987740160, 167936, 166912, 8),
    "h100": ("NVIDIA H100 80GB HBM3", 132, 3352320000000, 52428800, 1.98, 84929347584, 233472, 232448, 9),
    "h200": ("NVIDIA H200", 132, 4814390000000, 62914560, 1.98, 150754820096, 233472, 232448, 9),
}
# No metadata server, no names of hosts, no chatter.
_TPU_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_LOG_DIR": "disabled",
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_MIN_LOG_LEVEL": "3",
}


def _of_compiler(topology: str) -> str:
    """A slice by the compiler's name; other names as they are. Some clouds say v5litepod."""
    return SLICES.get(topology.lower().replace("v5litepod", "v5e"), topology)


def chip_of(topology: str) -> str:
    """`v5e:2x4` → v5e, `h100x8` → h100. Raises ValueError for a name that means nothing, with those that do."""
    name = _of_compiler(topology)
    tpu, gpu = re.fullmatch(r"(v\w+):\d+(x\d+){1,2}", name), re.fullmatch(r"([a-z]+\d+)x\d+(x\d+)?", name)
    chip = tpu[1] if tpu and tpu[1] in TPUS else gpu[1] if gpu and gpu[1] in GPUS else ""
    if not chip:
        raise ValueError(
            f"there is no topology {topology!r}; known are {', '.join(SLICES)}, CHIP:XxY or CHIP:XxYxZ of "
            f"{', '.join(TPUS)}, and GPUxDEVICES or GPUxHOSTSxDEVICES of {', '.join(GPUS)}, such as h100x8"
        )
    return chip


def mesh_of(topology: str) -> Mesh:
    """The mesh over all devices of a topology. They can be compiled for, and nothing else.

    Raises ValueError for an unknown name, and where its compiler is not installed.
    """
    chip, name = chip_of(topology), _of_compiler(topology)
    platform = "tpu" if chip in TPUS else "cuda"
    try:
        if platform == "tpu":
            os.environ.update(_TPU_ENVIRONMENT)
            found = topologies.get_topology_desc(platform=platform, topology_name=name, **_OPTIONS.get(chip, {}))
        else:
            _, *shape = name.split("x")
            found = topologies.get_topology_desc(
                platform=platform, topology="x".join(["1"] * (3 - len(shape)) + shape), target_config=_target(chip)
            )
    except (RuntimeError, jax.errors.JaxRuntimeError, NotImplementedError) as error:
        why = str(error).splitlines()[0][:300]
        if any(map(importlib.util.find_spec, COMPILERS[platform])):
            raise ValueError(f"there is no topology {topology!r}: {why}") from error
        raise ValueError(
            f"{topology}: {why}. The compilers come with the extra aot: pip install -c "
            "constraints.txt -e '.[aot]', best into an environment of its own"
        ) from error
    return sharding.make_mesh(list(found.devices))


@contextmanager
def cudnn_of(mesh: Mesh) -> Iterator[None]:
    """JAX asks this machine's cuDNN before it traces attention. Within, the answer is that of the mesh's GPUs."""
    if sharding.platform(mesh) != "gpu":
        yield
        return
    from jax._src.cudnn import fused_attention_stablehlo as asked  # nothing public answers in its place

    capability = mesh.devices.flat[0].compute_capability
    answers = {
        "check_cudnn_version": lambda: 91200,
        "check_compute_capability": lambda least: float(capability) >= float(least),
        "is_cuda_compute_capability_equal": lambda other: capability == other,
    }
    before = {name: getattr(asked, name) for name in answers}
    attention.cudnn_problem.cache_clear()
    try:
        for name, answer in answers.items():
            setattr(asked, name, answer)
        yield
    finally:
        for name, answer in before.items():
            setattr(asked, name, answer)
        attention.cudnn_problem.cache_clear()


def quiet() -> None:
    """Keeps JAX from computing on devices of its own. Call it first. A CUDA plugin still says that it finds none."""
    os.environ.update(_TPU_ENVIRONMENT)
    logging.getLogger("jax._src.xla_bridge").setLevel(logging.ERROR)
    jax.config.update("jax_platforms", "cpu")


def _target(chip: str) -> str:
    name, cores, bandwidth, cache, clock, memory, shared, most_shared, major = _GPU_CONFIGS[chip]
    return f"""
gpu_device_info {{
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
  shared_memory_per_block: 49152 shared_memory_per_core: {shared} shared_memory_per_block_optin: {most_shared}
  core_count: {cores} fpus_per_core: 128 clock_rate_ghz: {clock}
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: {bandwidth} l2_cache_size: {cache} device_memory_size: {memory}
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  cuda_compute_capability {{ major: {major} minor: 0 }}
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 12 patch: 0 }}
runtime_version {{ major: 12 minor: 9 patch: 0 }}
device_description_str: "{name}"
"""
