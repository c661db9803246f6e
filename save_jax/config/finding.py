"""Configurations by path or by name, in a checkout and in an installed wheel."""

import importlib.util
import os

from ml_collections import ConfigDict

import save_jax


class ConfigNotFound(ValueError):
    """There is no such configuration; the message lists those that there are."""


def find_config(text: str) -> str:
    """The file and the words of a config given by path or by name: demo:smoke → …/configs/demo.py:smoke.

    Raises ConfigNotFound that lists what there is where the name is unknown.
    """
    name, colon, words = text.partition(":")
    folder = configs_folder()
    path = name if name.endswith(".py") or os.path.isfile(name) else os.path.join(folder, f"{name}.py")
    if not os.path.exists(path):
        names = sorted(file.removesuffix(".py") for file in os.listdir(folder) if file.endswith(".py"))
        raise ConfigNotFound(
            f"no such configuration: {name} is neither a file nor one of {', '.join(n for n in names if n[0] != '_')}"
        )
    return path + colon + words


def configs_folder() -> str:
    """The configurations of an installed wheel, or of this checkout."""
    installed = importlib.util.find_spec("save_jax.configs")
    if installed and installed.origin:
        return os.path.dirname(installed.origin)
    return os.path.join(os.path.dirname(os.path.dirname(save_jax.__file__)), "configs")


def read_config(text: str) -> ConfigDict:
    """The configuration of a path or name with its words, such as "demo:smoke", as its file gives it.

    Raises ConfigNotFound, and whatever the file raises for words that it does not know.
    """
    path, _, words = find_config(text).partition(":")
    spec = importlib.util.spec_from_file_location("_config", path)
    if spec is None or spec.loader is None:
        raise ConfigNotFound(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(words)
