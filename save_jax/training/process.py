"""Setting up a process: quiet libraries, a compilation cache, Ctrl-C, and a warning of an unused accelerator."""

import glob
import os
import signal
import sys

import jax
from absl import logging

# Name of an accelerator → files of its driver. They show that a machine has one even where JAX does not use it.
SIGNS = {
    "NVIDIA GPU": ("/dev/nvidia[0-9]*", "/proc/driver/nvidia/version"),
    "TPU": ("/dev/accel[0-9]*", "/dev/vfio/[0-9]*"),
}
# Compiled programs, and how much of them; those not used for longest go. JAX cannot limit a folder begun without one,
# so that a folder of the user has what limit the user gives it.
CACHE, CACHE_BYTES = os.path.expanduser("~/.cache/save_jax/programs"), 4 << 30
EXTRAS = {"NVIDIA GPU": "cuda12 (driver 525 or newer) or cuda13 (driver 580 or newer)", "TPU": "tpu"}


def install(extra: str) -> str:
    """The command that installs an extra."""
    return f"pip install -c constraints.txt -e '.[{extra}]'"


def set_up_process() -> None:
    """Quiets libraries, and keeps compiled programs for the next run (JAX_COMPILATION_CACHE_DIR says where)."""
    # Python's own handler raises an exception wherever the interpreter is. One raised in a callback of JAX is lost.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    logging.set_verbosity(logging.ERROR)  # Orbax reports every file, and warns of what is intended
    if not jax.config.values["jax_compilation_cache_dir"]:
        jax.config.update("jax_compilation_cache_max_size", cache_limit())
        jax.config.update("jax_compilation_cache_dir", CACHE)


def cache_folder() -> str:
    """Where compiled programs are kept: what JAX is told, or else a folder of this project."""
    return jax.config.values["jax_compilation_cache_dir"] or CACHE


def cache_limit() -> int:
    """The most bytes of compiled programs that are kept: what JAX is told, else CACHE_BYTES of our folder; -1: any."""
    told = jax.config.values["jax_compilation_cache_max_size"]
    return CACHE_BYTES if told < 0 and cache_folder() == CACHE else told


def unused_accelerator() -> str:
    """Name of an accelerator of this machine that JAX does not use; "" for none, or if JAX_PLATFORMS chose the CPU."""
    if jax.default_backend() != "cpu" or _chose_cpu():
        return ""
    return next((name for name, signs in SIGNS.items() if any(glob.glob(sign) for sign in signs)), "")


def _chose_cpu() -> bool:
    return "cpu" in (jax.config.values["jax_platforms"] or "")


def warn_of_unused_accelerator() -> None:
    """One warning on standard error, with what to install."""
    if name := unused_accelerator():
        print(
            f"WARNING: this machine has an accelerator ({name}), and JAX computes on the CPU, many times slower. "
            f"Install save_jax with the extra {EXTRAS[name]}, such as {install(EXTRAS[name].split()[0])}; or set "
            "JAX_PLATFORMS=cpu where the CPU is meant. save-jax doctor says more.",
            file=sys.stderr,
            flush=True,
        )
