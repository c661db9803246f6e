"""Writes what `torch.save` writes, without PyTorch: a zip archive of storages and a pickle that refers to them."""

import collections
import io
import pickle
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import numpy as np


class Storage:
    """Stands for storage `name` of `count` numbers."""

    def __init__(self, name: str, count: int):
        self.name, self.count = name, count


class Tensor:
    """A tensor of a storage that is written already, of any shape and strides."""

    def __init__(self, name: str, count: int, shape: tuple, strides: tuple):
        self.arguments = (Storage(name, count), 0, shape, strides, False, collections.OrderedDict())


def _class(module: str, name: str) -> Any:
    """A class that pickles under this name; none of this is PyTorch's."""
    made = type(name, (), {"__module__": module, "__qualname__": name})
    setattr(sys.modules[module], name, made)
    return made


def save(path: Path, tree: object, compression: int = zipfile.ZIP_STORED, protocol: int = 2) -> str:
    """Writes a tree of NumPy arrays, `Tensor`s and what pickles; returns the path."""
    data = {}
    before = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    sys.modules |= {name: types.ModuleType(name) for name in before}
    rebuild, numbers = _class("torch._utils", "_rebuild_tensor_v2"), _class("torch", "FloatStorage")

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: object) -> object:
            return ("storage", numbers, obj.name, "cpu", obj.count) if isinstance(obj, Storage) else None

        def reducer_override(self, obj: object) -> Any:
            if isinstance(obj, Tensor):
                return rebuild, obj.arguments
            if type(obj) is not np.ndarray:
                return NotImplemented
            array, name = np.array(obj, np.float32, order="C"), str(len(data))
            data[name] = array.tobytes()
            strides = tuple(stride // 4 for stride in array.strides)
            return rebuild, (Storage(name, array.size), 0, array.shape, strides, False, collections.OrderedDict())

    buffer = io.BytesIO()
    try:
        Pickler(buffer, protocol).dump(tree)
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("archive/data.pkl", buffer.getvalue())
        for name, content in data.items():
            file.writestr(f"archive/data/{name}", content)
    return str(path)
