"""Flags of the commands that train: config, folder, processes. A mistake in them ends with one message."""

import sys
from collections.abc import Sequence

from absl import flags
from ml_collections import config_flags

from save_jax import sharding
from save_jax.config.finding import ConfigNotFound, find_config
from save_jax.data import command_line

CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "Configuration file or name, and after a colon words separated by commas: model=NAME, backbone=NAME, seed=NUMBER, "
    "smoke. Such as configs/msrvtt.py:model=avigate,backbone=L/14,seed=2, or msrvtt:seed=2. --config.NAME=VALUE sets "
    "one value.",
)
WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run, or of a sweep's runs. An unfinished run in it is continued."
)
COORDINATOR = flags.DEFINE_string(
    "coordinator", "", "Where several processes meet: HOST:PORT of process 0, or auto (TPU pods, SLURM, Open MPI)."
)
PROCESSES = flags.DEFINE_integer("processes", 0, "Number of processes, with --coordinator=HOST:PORT.")
PROCESS = flags.DEFINE_integer("process", -1, "Number of this process, from 0, with --coordinator=HOST:PORT.")
flags.mark_flags_as_required(["config", "workdir"])
CONFIG_FLAGS = ("config", "finetune")  # flags whose value is a configuration


def join_processes() -> None:
    """Joins the other processes of a run, if the flags name any. Ends with a message if they do not fit together."""
    try:
        sharding.start_processes(COORDINATOR.value, PROCESSES.value, PROCESS.value)
        sharding.agree_on_versions()
    except (ValueError, RuntimeError) as error:
        sys.exit(f"error: {error}")


def _with_config_files(argv: Sequence[str]) -> list[str]:
    """The arguments, with names of configurations replaced by paths."""
    made, value_follows = [], False
    for argument in argv:
        flag, equals, value = argument.partition("=")
        if value_follows:
            argument = find_config(argument)
        elif equals and flag.lstrip("-") in CONFIG_FLAGS and flag.startswith("-"):
            argument = f"{flag}={find_config(value)}"
        value_follows = not equals and flag.startswith("-") and flag.lstrip("-") in CONFIG_FLAGS
        made.append(argument)
    return made


def parse_flags(argv: list[str]) -> list[str]:
    """absl's parser. A missing config file or a misspelt setting ends with one message."""
    argv = [*argv[:1], *command_line.arguments(argv[1:])]
    try:
        rest = flags.FLAGS(_with_config_files(argv))
        getattr(CONFIG.value, "items", None)  # config_flags reports a missing file only when it is read
        return rest
    except flags.Error as error:
        text = str(error).strip()
        if (
            "Traceback (most recent call last)" in text
        ):  # an error within a config; config_flags passes on the traceback
            text = text.splitlines()[-1]
        sys.exit(f"error: {text}\nflags: --help; every setting: save_jax/config/")
    except ConfigNotFound as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: no such configuration file ({str(error).splitlines()[-1].strip()})")
    except (AttributeError, KeyError, TypeError, ValueError, ImportError) as error:
        text = str(error.args[0] if error.args else error).replace("\\n", " ").replace("\\'", "'").strip('"')
        sys.exit(f"error: {type(error).__name__} in the command's settings: {text}\nevery setting: save_jax/config/")
