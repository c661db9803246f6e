"""What a run computes on, in words, and a warning, with an estimate, where a full-size model begins on a CPU."""

import os
import sys
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from save_jax import sharding
from save_jax.config.sizes import precision
from save_jax.models import attention, operations

# Operations for one sample, above which a model is for accelerators. Training takes the demos' 0.2e9 at most, and the
# papers' 23e9 at least (their heads alone, beside cached towers); encoding takes the papers' 100e9 and more.
FULL_SIZE = 2e9
_LENGTHS = (("year", 365 * 86400), ("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))


def name_devices(devices: Sequence[sharding.Device]) -> str:
    """Devices of one kind, such as "8 × TPU v5 lite, 16 GiB each". Of a GPU it is the memory that JAX may take."""
    first = devices[0]
    if first.platform == "cpu":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return f"{len(devices)} × CPU ({cores} cores, {memory / 2**30:.0f} GiB in all)"
    # Only of a device of this process the memory is known.
    own = next((device for device in devices if device.process_index == jax.process_index()), first)
    limit = (own.memory_stats() or {}).get("bytes_limit")
    return f"{len(devices)} × {first.device_kind}" + (f", {limit / 2**30:.0f} GiB each" if limit else "")


def describe(config: ConfigDict) -> str:
    """The first line of a run: devices, processes where there are several, and what it computes in.

    Where a GPU has no usable cuDNN, `config.model.attention=auto` falls back to JAX's own attention; the line says why.
    """
    devices, processes = jax.devices(), jax.process_count()
    together = f" in {processes} processes" if processes > 1 else ""
    rounded = config.model.dtype == "float32" and devices[0].platform != "cpu"
    exactness = f" (products: {precision(config)})" if rounded else ""
    without = config.model.attention == "auto" and config.model.dtype != "float32" and devices[0].platform == "gpu"
    problem = attention.cudnn_problem() if without else ""
    slower = f"; attention: JAX's own, for cuDNN's cannot be used ({problem}); save-jax doctor" if problem else ""
    return f"{name_devices(devices)}{together}; {config.model.dtype}{exactness}{slower}"


def matrix_rate(dtype: str, seconds: float = 0.5) -> float:
    """Operations a second of products of two 1,024 × 1,024 matrices on this process's default device."""
    side = 1024
    multiply = jax.jit(jnp.matmul)
    a = (side**-0.5 * jax.random.normal(jax.random.key(0), (side, side))).astype(dtype)
    b = jax.block_until_ready(multiply(a, a))  # compiles
    count, begin = 0, time.perf_counter()
    while (passed := time.perf_counter() - begin) < seconds or not count:
        b = jax.block_until_ready(multiply(a, b))
        count += 1
    return count * 2 * side**3 / passed


def warn_of_training_on_cpu(config: ConfigDict, steps: int) -> None:
    """Warns, once of all processes, where the `steps` that a run has left are those of a full-size model on a CPU."""
    step = sum(operations.of_training(config).values())
    _warn(config, step / config.batch_size, steps * step, f"the {steps:,} steps of {config.name}")


def warn_of_evaluating_on_cpu(config: ConfigDict, clips: int) -> None:
    """As `warn_of_training_on_cpu`, of a split of that many clips, each encoded once."""
    a_clip = sum(operations.of_encoding(config).values()) / config.batch_size
    _warn(config, a_clip, clips * a_clip, f"encoding the {clips:,} clips of split {config.data.test_split!r} once")


def in_words(seconds: float) -> str:
    """A length of time with its largest unit, such as "3 hours" or "86 days"."""
    unit, length = next((row for row in _LENGTHS if seconds >= 2 * row[1]), _LENGTHS[-1])
    return f"{seconds / length:,.0f} {unit}s"


def _warn(config: ConfigDict, a_sample: float, work: float, what: str) -> None:
    if not work or a_sample < FULL_SIZE or jax.default_backend() != "cpu" or jax.process_index():
        return
    rate, processes = matrix_rate(config.model.dtype), jax.process_count()
    length = in_words(work / rate / processes)
    together = f" in each of {processes} processes" if processes > 1 else ""
    print(
        f"WARNING: {config.name} is a full-size model, and JAX computes on the CPU. An estimate: {what} would take "
        f"about {length} or more, for {work:.1e} operations (counted) at the {rate / 1e9:,.0f} "
        f"GFLOP/s{together} that matrix products reached just now (measured). Use a machine with a GPU or TPU "
        "(docs/scaling.md; save-jax doctor tells what is missing here). To see that all runs, take --config demo, or "
        "the word smoke, such as --config msrvtt:smoke.",
        file=sys.stderr,
        flush=True,
    )
