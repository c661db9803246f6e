"""A process that computes: quiet libraries, compiled programs kept, Ctrl-C that ends it."""

import os
import signal

import jax
from absl import logging


def set_up_process() -> None:
    """Quiet libraries, and compiled programs kept for the next run (JAX_COMPILATION_CACHE_DIR says where)."""
    # Python's own handler raises wherever the interpreter is; inside one of JAX's callbacks that is lost.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    logging.set_verbosity(logging.ERROR)  # Orbax tells of every file it writes, and warns of what is meant to be so
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # it says that PyTorch is absent; it is meant to be
    if not jax.config.jax_compilation_cache_dir:
        jax.config.update("jax_compilation_cache_dir", os.path.expanduser("~/.cache/save_jax/xla"))
