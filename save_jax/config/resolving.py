"""Checks before anything is loaded, and what follows from settings without changing them."""

import operator
from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from save_jax.config import retrieval, vlsa
from save_jax.config.home import expand
from save_jax.config.retrieval import FROZEN_BY_CACHE, base
from save_jax.config.vlsa import vlsa_base

TASKS = ("retrieval", "vlsa-pretrain", "vlsa-finetune")
PATHS = ("data_dir", "init_from", "data.tokenizer")  # where "~" is the home; several with commas
# What `resolve` compares. Setting → what it may be, its least value, what it must be a multiple of, and its limit.
CHOICES = {
    "sharding": ("replicated", "fsdp"),
    "cache": ("none", "ast", "towers"),
    "model.remat": ("none", "blocks", "dots"),
    "model.attention": ("auto", "xla", "cudnn"),
    "model.dtype": ("float32", "bfloat16"),
    "model.precision": ("auto", "default", "high", "highest"),
}
LEAST = dict.fromkeys(("seed", "steps", "micro_batch", "eval_every", "checkpoint_every", "spike"), 0)
LEAST |= dict.fromkeys(("data.workers", "data.threads", "data.prefetch"), 0)
LEAST |= dict.fromkeys(("batch_size", "epochs", "log_every", "keep_last", "data.max_words", "data.max_frames"), 1)


def defaults(task: str) -> ConfigDict:
    """What a config of a task begins as. Raises ValueError for a task that is not known."""
    if task not in TASKS:
        raise ValueError(f"config.task is {task!r}; choose {' | '.join(TASKS)}")
    return base() if task == "retrieval" else vlsa_base(task)


def resolve(config: ConfigDict) -> ConfigDict:
    """A checked and locked copy; raises ValueError that lists everything that cannot work."""
    config = config.copy_and_resolve_references()
    defaults(config.task)
    with config.unlocked():
        for setting in PATHS:
            *group, name = setting.split(".")
            section = operator.attrgetter(".".join(group))(config) if group else config
            section[name] = expand(section[name])
    own = retrieval if config.task == "retrieval" else vlsa
    problems = [
        *own.problems(config),
        *_problems(config, CHOICES | own.CHOICES, own.MULTIPLES, own.AT_MOST),
    ]
    if problems:
        raise ValueError("the configuration cannot work:\n  " + "\n  ".join(problems))
    return config.lock()


def frozen_patterns(config: ConfigDict) -> tuple[str, ...]:
    """Patterns of the parameters that do not train: config.optim.frozen, and the towers whose outputs are cached."""
    cached = FROZEN_BY_CACHE.get(config.cache, ())
    return (*config.optim.frozen, *(pattern for pattern in cached if pattern not in config.optim.frozen))


def _problems(
    config: ConfigDict,
    choices: Mapping[str, tuple],
    multiples: Mapping[str, str],
    at_most: Mapping[str, str],
) -> Iterator[str]:
    """A line for everything that a table forbids."""

    def value(name: str) -> Any:
        return operator.attrgetter(name)(config)

    for setting, allowed in choices.items():
        if value(setting) not in allowed:
            yield f"config.{setting} is {value(setting)!r}; choose one of {', '.join(allowed)}"
    for setting, least in LEAST.items():
        if value(setting) < least:
            yield f"config.{setting}={value(setting)} is less than {least}"
    for setting, of in multiples.items():
        if value(of) < 1 or value(setting) % value(of):
            yield f"config.{setting}={value(setting)} is not a multiple of config.{of}={value(of)}"
    for setting, limit in at_most.items():
        if value(setting) > value(limit):
            yield f"config.{setting}={value(setting)} is more than config.{limit}={value(limit)}"
    if config.micro_batch > 0 and config.batch_size % config.micro_batch:
        yield f"config.micro_batch={config.micro_batch} does not divide config.batch_size={config.batch_size}"
