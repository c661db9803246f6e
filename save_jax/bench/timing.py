"""Fair timings for the benches: ways to do one thing take turns, and every figure comes with its spread and machine."""

import os
import platform
import time
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from save_jax.report import versions

BEGAN = "SAVE_JAX_BENCH_BEGAN"  # of the environment


def alternate(ways: Mapping[str, Callable[[], object]], rounds: int = 5, budget: float = 60.0) -> dict[str, dict]:
    """Times ways to do the same, each once in a round, so that what else the machine does befalls them alike.

    Args:
        ways: functions that return arrays; JAX's are waited for. A first call of each is not counted.
        rounds: how often each is timed; the order turns around every round.
        budget: seconds after which no further round begins.
    Returns:
        {name: {"median", "min", "max": seconds, "rounds"}}.
    """
    for way in ways.values():
        jax.block_until_ready(way())
    seconds = {name: [] for name in ways}
    begin = time.perf_counter()
    for number in range(rounds):
        if number and time.perf_counter() - begin > budget:
            break
        for name in list(ways)[:: 1 if number % 2 == 0 else -1]:
            start = time.perf_counter()
            jax.block_until_ready(ways[name]())
            seconds[name].append(time.perf_counter() - start)
    return {
        name: {"median": float(np.median(values)), "min": min(values), "max": max(values), "rounds": len(values)}
        for name, values in seconds.items()
    }


def matrix_product(
    size: int = 2048, dtype: str = "float32", count: int = 1, precision: str | None = None
) -> tuple[Callable[[], jax.Array], int]:
    """Matrix products on the first device, to be timed beside what they are compared with; their operations together.

    Of random numbers: a GPU that draws less power for zeros or ones runs faster on them. Each takes the result of the
    one before, so that who waits for the last has waited for all, and no more than two results are held.

    Args:
        count: of products in one call.
        precision: as config.model.precision; None is the device's own, on a GPU TF32 for float32.
    """
    # Powers of a random matrix stay as large as they are at this scale.
    a = (size**-0.5 * jax.random.normal(jax.random.key(0), (size, size))).astype(dtype)
    multiply = jax.jit(lambda a, b: jnp.matmul(a, b, precision=precision))

    def products() -> jax.Array:
        b = a
        for _ in range(count):
            b = multiply(a, b)
        return b

    return products, count * 2 * size**3


def saturating(operations: int, backend: str) -> tuple[int, int]:
    """(size, count) of matrix products that fill a device and come to about `operations`, but are no more than 32.

    One product is shorter than many a step: waited for alone, it would be charged with a wait that the step is not.
    """
    size = 2048 if backend == "cpu" else 8192
    return size, min(max(round(operations / (2 * size**3)), 1), 32)


def since_start() -> float | None:
    """Seconds since this process was started, where who started it says when: BEGAN, in seconds of time.time()."""
    return time.time() - float(os.environ[BEGAN]) if BEGAN in os.environ else None


def machine() -> dict:
    """What computed: processor or accelerator, cores this process may use, load of the last minute, versions."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None
    return {"processor": _processor(), "cores": cores, "load": load, "versions": versions.versions()}


def _processor() -> str:
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def describe(machine: Mapping) -> str:
    """`machine()` in one line."""
    return (
        f"{machine['versions']['devices']}, {machine['processor']}, {machine['cores']} cores, load {machine['load']}, "
        f"jax {machine['versions']['jax']}, numpy {machine['versions']['numpy']}"
    )
