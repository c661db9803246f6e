"""Flags of the commands that train: which config, which folder, which processes; a mistake ends as one message."""

import sys
from collections.abc import Sequence

from absl import flags
from ml_collections import config_flags

from save_jax import sharding
from save_jax.config.finding import ConfigNotFound, find_config

CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "Configuration file or name, and after a colon words separated by commas: model=NAME, backbone=NAME, seed=NUMBER, "
    "smoke. Such as configs/msrvtt.py:model=avigate,backbone=L/14,seed=2, or msrvtt:seed=2. --config.NAME=VALUE sets "
    "one value.",
)
WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run, or of a sweep's runs; what is unfinished in it goes on."
)
COORDINATOR = flags.DEFINE_string(
    "coordinator", "", "Where several processes meet: HOST:PORT of process 0, or auto (TPU pods, SLURM, Open MPI)."
)
PROCESSES = flags.DEFINE_integer("processes", 0, "How many there are, beside a plain --coordinator.")
PROCESS = flags.DEFINE_integer("process", -1, "Which one this is, from 0, beside a plain --coordinator.")
flags.mark_flags_as_required(["config", "workdir"])
CONFIG_FLAGS = ("config", "finetune")  # flags whose value is a configuration


def join_processes() -> None:
    """Meets the other processes of a run, if flags name any; ends with a message where they do not fit together."""
    try:
        sharding.start_processes(COORDINATOR.value, PROCESSES.value, PROCESS.value)
    except (ValueError, RuntimeError) as error:
        sys.exit(f"error: {error}")


def _with_config_files(argv: Sequence[str]) -> list[str]:
    """The arguments, with names of configurations made into paths."""
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
    """absl's parser, where a missing config file or a misspelt setting ends as one message."""
    try:
        rest = flags.FLAGS(_with_config_files(argv))
        getattr(CONFIG.value, "items", None)  # config_flags reports a missing file only once it is looked at
        return rest
    except flags.Error as error:
        text = str(error).strip()
        if "Traceback (most recent call last)" in text:  # a config's own error; config_flags hands on all of it
            text = text.splitlines()[-1]
        sys.exit(f"error: {text}\nflags: --help; every setting: save_jax/config/")
    except ConfigNotFound as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: no such configuration file ({str(error).splitlines()[-1].strip()})")
    except (AttributeError, KeyError, TypeError, ValueError, ImportError) as error:
        text = str(error.args[0] if error.args else error).replace("\\n", " ").replace("\\'", "'").strip('"')
        sys.exit(f"error: {type(error).__name__} in the command's settings: {text}\nevery setting: save_jax/config/")
