"""Checks of the machine: Python and packages, devices, accelerators that JAX does not use, cuDNN, the cache.

JAX is imported within: where it cannot be, the other checks still tell.
"""

import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple

from save_jax.doctor.line import Line

PACKAGES = ("save_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "transformers")
PLUGINS = ("jax-cuda12-plugin", "jax-cuda12-pjrt", "jax-cuda13-plugin", "jax-cuda13-pjrt")  # each as new as jaxlib
TESTED = ((3, 11), (3, 13))
# CUDA's major version → the oldest driver and the lowest compute capability that its wheels of JAX work with.
CUDA = {13: (580, 7.5), 12: (525, 5.2)}
FUSED = 8.0  # compute capability that cuDNN's fused attention, and bfloat16, need


class Gpu(NamedTuple):
    """A GPU as nvidia-smi describes it."""

    name: str
    driver: str
    capability: float


def check_python() -> Line:
    """Its version, and the system's."""
    text = f"{platform.python_version()} at {sys.executable}, {platform.platform()}"
    first, last = (".".join(map(str, version)) for version in TESTED)
    if TESTED[0] <= sys.version_info[:2] <= TESTED[1]:
        return Line("Python", "ok", text)
    return Line("Python", "note", text, f"Python {first} to {last} is tested: make an environment with one of them")


def check_packages() -> Iterator[Line]:
    """Versions, what is absent, and plugins of JAX that it would pass over without a word."""
    known = {name: _version(name) for name in PACKAGES}
    listed = ", ".join(f"{name} {version}" for name, version in known.items() if version)
    if absent := [name for name, version in known.items() if not version]:
        yield Line(
            "packages", "problem", f"absent: {', '.join(absent)}; {listed}", "pip install -c constraints.txt -e ."
        )
    else:
        yield Line("packages", "ok", listed)
    plugins = {name: version for name in PLUGINS if (version := _version(name))}
    for name, version in plugins.items():
        if version != known["jaxlib"]:
            step = f"JAX passes over it: pip install -c constraints.txt -e '.[{name.split('-')[1]}]'"
            yield Line("packages", "problem", f"{name} {version} is not of jaxlib {known['jaxlib']}", step)
    kinds = sorted({name.split("-")[1] for name in plugins})
    if len(kinds) > 1:
        yield Line("packages", "note", f"JAX is here for {' and '.join(kinds)}", "one of them is enough")


def check_devices() -> Iterator[Line]:
    """What JAX computes on."""
    import jax

    from save_jax.training.devices import name_devices

    devices = jax.devices()
    driver = "".join(f", driver {gpu.driver}" for gpu in gpus_of_machine()[:1]) if devices[0].platform == "gpu" else ""
    yield Line("devices", "ok", f"{name_devices(devices)}{driver}")
    capability = _capability(devices[0])
    if capability and capability < FUSED:
        yield Line(
            "devices",
            "note",
            f"compute capability {capability}, and bfloat16 needs {FUSED}",
            "leave config.model.dtype=float32",
        )


def check_accelerator() -> Line:
    """Whether the machine has one that JAX does not use, and what to install for it."""
    from save_jax.training import process

    name, gpus, chosen = "accelerator", gpus_of_machine(), os.environ.get("JAX_PLATFORMS", "")
    unused = process.unused_accelerator()
    if not unused and gpus and "cpu" in chosen:
        return Line(name, "note", f"{gpus[0].name} is there, and JAX_PLATFORMS={chosen} chooses the CPU", "unset it")
    if not unused:
        return Line(name, "ok", "none that JAX leaves unused")
    if unused != "NVIDIA GPU":
        return Line(name, "problem", f"{unused}: JAX does not use it", process.install(process.EXTRAS[unused]))
    if not gpus:
        step = f"install the extra {process.EXTRAS[unused]}, such as {process.install('cuda12')}"
        return Line(name, "problem", "NVIDIA GPU: JAX does not use it, and nvidia-smi tells nothing of it", step)
    return advise(gpus[0], {plugin.split("-")[1] for plugin in PLUGINS if _version(plugin)})


def advise(gpu: Gpu, installed: set[str]) -> Line:
    """What to do for a GPU that JAX does not use. `installed`: the extras for CUDA that are there, such as cuda12."""
    from save_jax.training import process

    name = "accelerator"
    text = f"{gpu.name}, driver {gpu.driver}, compute capability {gpu.capability}: JAX does not use it"
    oldest, lowest = (min(column) for column in zip(*CUDA.values(), strict=True))
    if gpu.capability < lowest:
        return Line(name, "note", f"{text}, and needs {lowest} for that", "set JAX_PLATFORMS=cpu")
    driver = int(gpu.driver.split(".")[0])
    fitting = [f"cuda{cuda}" for cuda, (least, low) in CUDA.items() if driver >= least and gpu.capability >= low]
    if not fitting:
        return Line(
            name, "problem", text, f"install NVIDIA's driver {oldest} or newer, then {process.install('cuda12')}"
        )
    if not installed & {*fitting}:
        return Line(name, "problem", text, f"in a new environment: {process.install(fitting[0])}")
    hiding = [name for name in ("CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH") if name in os.environ]
    unset = f"unset {' and '.join(hiding)}; " if hiding else ""
    why = "python -c 'import jax; jax.devices(\"cuda\")' says why"
    return Line(name, "problem", f"{text}, though {' and '.join(sorted(installed))} is installed", unset + why)


def check_cudnn() -> Line:
    """Whether cuDNN's fused attention works here, by a small gradient through it."""
    import jax
    import jax.numpy as jnp

    from save_jax.training import process

    name = "cuDNN attention"
    if jax.default_backend() != "gpu":
        return Line(name, "ok", "not for this machine: it needs an NVIDIA GPU")
    capability = _capability(jax.local_devices()[0])
    if capability and capability < FUSED:
        needs = f"it needs compute capability {FUSED}, this GPU has {capability}"
        return Line(
            name, "note", f"not for this GPU: {needs}", "leave config.model.attention=auto, which goes without it"
        )
    wheels = ("nvidia-cudnn-cu12", "nvidia-cudnn-cu13")
    installed = ", ".join(f"{wheel} {_version(wheel)}" for wheel in wheels if _version(wheel)) or "none of pip's"
    x = jnp.ones((2, 64, 2, 64), jnp.bfloat16)

    def total(x: jax.Array) -> jax.Array:
        return jax.nn.dot_product_attention(x, x, x, implementation="cudnn").astype(jnp.float32).sum()

    try:
        jax.block_until_ready(jax.jit(jax.grad(total))(x))
    except Exception as error:  # missing, too old, or not to be loaded; each is another type
        text = " ".join(str(error).split())[:300]
        cuda = "cuda12" if _version("jax-cuda12-plugin") else "cuda13"
        unset = "unset LD_LIBRARY_PATH, then " if "LD_LIBRARY_PATH" in os.environ else ""
        step = f"{unset}{process.install(cuda)}; until then config.model.attention=xla"
        return Line(name, "problem", f"fails ({installed}): {text}", step)
    return Line(name, "ok", f"works ({installed}): config.model.attention=auto takes it in bfloat16")


def check_cache() -> Line:
    """The folder of compiled programs: whether it is there and can be written, its size and its limit."""

    from save_jax.training import process

    name = "compiled programs"
    folder = process.cache_folder()
    if "://" in folder:
        return Line(name, "ok", f"{folder}, an address that is not looked into")
    most = process.cache_limit()
    limit = "no limit" if most < 0 else f"at most {most / 2**20:,.0f} MiB"
    if not os.path.exists(folder):
        return Line(name, "ok", f"{folder} ({limit}) is made by the first run")
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK | os.X_OK):
        return Line(
            name, "problem", f"{folder} cannot be written", "set JAX_COMPILATION_CACHE_DIR to a folder that can"
        )
    files = [entry for entry in os.scandir(folder) if entry.is_file()]
    size = sum(entry.stat().st_size for entry in files) / 2**20
    text = f"{folder}: {len(files):,} files, {size:,.0f} MiB, {limit}"
    if most < 0 and size > 10 * 1024:
        return Line(name, "note", text, "delete it; then JAX_COMPILATION_CACHE_MAX_SIZE=BYTES limits it")
    return Line(name, "ok", text)


def gpus_of_machine() -> list[Gpu]:
    """NVIDIA's GPUs, whether or not JAX uses them; none where nvidia-smi is missing or fails."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version,compute_cap", "--format=csv,noheader"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
        rows = [[cell.strip() for cell in line.split(",")] for line in said.splitlines() if line.strip()]
        return [Gpu(name, driver, float(capability)) for name, driver, capability in rows]
    except (OSError, subprocess.SubprocessError, ValueError):
        return []


def _capability(device) -> float:
    """Compute capability of a GPU; 0 of other devices."""
    said = str(getattr(device, "compute_capability", ""))
    return float(said) if said.replace(".", "", 1).isdigit() else 0.0


def _version(name: str) -> str:
    """Of an installed package; "" where it is absent."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
