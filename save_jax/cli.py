"""What the command lines share: their flags, errors of flags in one line, a quiet process that a signal can end."""

import os
import signal
import sys

import jax
from absl import app, flags, logging
from ml_collections import config_flags

CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "Configuration file, such as configs/demo.py or configs/demo.py:smoke; --config.NAME=VALUE sets one value.",
)
WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run, or of a sweep's runs; what is unfinished in it goes on."
)
flags.mark_flags_as_required(["config", "workdir"])


def set_up_process() -> None:
    """Quiet libraries, and compiled programs kept for the next run (JAX_COMPILATION_CACHE_DIR says where)."""
    # Python's own handler raises wherever the interpreter is; inside one of JAX's callbacks that is lost.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    logging.set_verbosity(logging.ERROR)  # Orbax tells of every file it writes, and warns of what is meant to be so
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # it says that PyTorch is absent; it is meant to be
    if not jax.config.jax_compilation_cache_dir:
        jax.config.update("jax_compilation_cache_dir", os.path.expanduser("~/.cache/save_jax/xla"))


def parse_flags(argv: list[str]) -> list[str]:
    """absl's parser; a missing config file or a misspelt setting ends as one message instead of a traceback."""
    try:
        return app.parse_flags_with_usage(argv)
    except (AttributeError, KeyError, TypeError, ValueError, ImportError, OSError) as error:
        text = str(error.args[0] if error.args else error).replace("\\n", " ").strip("'\"")
        sys.exit(f"error: {type(error).__name__} in the command's settings: {text}\nevery setting: save_jax/config.py")
