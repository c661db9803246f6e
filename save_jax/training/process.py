"""A process that computes: quiet libraries, compiled programs kept, Ctrl-C that ends it, its accelerator in use."""

import glob
import os
import signal
import sys

import jax
from absl import logging

# What shows that a machine has an accelerator, whatever JAX says; first the name, then where its driver leaves files.
SIGNS = {
    "NVIDIA GPU": ("/dev/nvidia[0-9]*", "/proc/driver/nvidia/version"),
    "TPU": ("/dev/accel[0-9]*", "/dev/vfio/[0-9]*"),
}
EXTRAS = {"NVIDIA GPU": "cuda12 (driver 525 or newer) or cuda13 (driver 580 or newer)", "TPU": "tpu"}


def set_up_process() -> None:
    """Quiet libraries, and compiled programs kept for the next run (JAX_COMPILATION_CACHE_DIR says where)."""
    # Python's own handler raises wherever the interpreter is; inside one of JAX's callbacks that is lost.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    logging.set_verbosity(logging.ERROR)  # Orbax tells of every file it writes, and warns of what is meant to be so
    if not jax.config.jax_compilation_cache_dir:
        jax.config.update("jax_compilation_cache_dir", os.path.expanduser("~/.cache/save_jax/xla"))


def unused_accelerator() -> str:
    """Name of an accelerator in this machine where JAX computes on the CPU; "" for none.

    Nobody is told who chose the CPU by JAX_PLATFORMS.
    """
    if jax.default_backend() != "cpu" or _chose_cpu():
        return ""
    return next((name for name, signs in SIGNS.items() if any(glob.glob(sign) for sign in signs)), "")


def _chose_cpu() -> bool:
    return "cpu" in (jax.config.jax_platforms or "")


def warn_of_unused_accelerator() -> None:
    """One warning on standard error, with what to install."""
    if name := unused_accelerator():
        print(
            f"WARNING: this machine has an accelerator ({name}), and JAX computes on the CPU, many times slower. "
            f"Install save_jax with the extra {EXTRAS[name]}, such as pip install -c constraints.txt -e "
            "'.[cuda12]'; or set JAX_PLATFORMS=cpu where the CPU is meant.",
            file=sys.stderr,
            flush=True,
        )
