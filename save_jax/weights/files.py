"""Arrays out of weight files: safetensors, `torch.save` files and TorchScript archives, without PyTorch.

In: a path; out: {name: NumPy array}. PyTorch's files are zip archives of raw storages and a pickle that says which
tensor lies where. It is read by an unpickler that knows tensors, dictionaries and the empty shells of TorchScript
modules, and refuses every other name: nothing in a file is ever executed.
"""

import collections
import os
import pickle
import zipfile

import numpy as np
from ml_dtypes import bfloat16
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

_STORAGES = {
    "FloatStorage": np.float32, "HalfStorage": np.float16, "BFloat16Storage": bfloat16, "DoubleStorage": np.float64,
    "LongStorage": np.int64, "IntStorage": np.int32, "ShortStorage": np.int16, "CharStorage": np.int8,
    "ByteStorage": np.uint8, "BoolStorage": np.bool_,
}  # fmt: skip


class _Shell:
    """Stands in for a TorchScript module or for settings: holds attributes, runs nothing."""

    def __setstate__(self, state: object) -> None:
        self.attributes = state if isinstance(state, dict) else {}


def _tensor(storage: np.ndarray, offset: int, shape: tuple, strides: tuple, *_: object) -> np.ndarray:
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True)) if 0 not in shape else 0
    if offset < 0 or min(strides, default=0) < 0 or last >= max(len(storage), 1):
        raise pickle.UnpicklingError(f"a tensor of shape {list(shape)} reaches outside its storage")
    view = np.lib.stride_tricks.as_strided(storage[offset:], shape, [s * storage.itemsize for s in strides])
    return view.copy()


def _parameter(tensor: np.ndarray, *_: object) -> np.ndarray:
    return tensor


_KNOWN = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("argparse", "Namespace"): _Shell,  # settings that MAE's code stores beside its weights
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    # TorchScript's typed lists and dictionaries arrive as the plain ones that they are made of.
    ("torch.jit._pickle", "build_intlist"): lambda data: data,
    ("torch.jit._pickle", "build_doublelist"): lambda data: data,
    ("torch.jit._pickle", "build_boollist"): lambda data: data,
    ("torch.jit._pickle", "build_tensorlist"): lambda data: data,
    ("torch.jit._pickle", "restore_type_tag"): lambda data, _: data,
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, archive: zipfile.ZipFile, root: str):
        super().__init__(archive.open(f"{root}/data.pkl"))
        self._archive, self._root = archive, root

    def find_class(self, module: str, name: str) -> object:
        if (module, name) in _KNOWN:
            return _KNOWN[module, name]
        if module == "torch" and name in _STORAGES:
            return np.dtype(_STORAGES[name])
        if module.startswith("__torch__"):
            return _Shell
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no weights need")

    def persistent_load(self, key: tuple) -> np.ndarray:
        kind, dtype, name, _, count = key
        if kind != "storage" or not isinstance(dtype, np.dtype):
            raise pickle.UnpicklingError(f"it refers to {key!r}, which is no storage")
        return np.frombuffer(self._archive.read(f"{self._root}/data/{name}"), dtype, count)


def _flatten(tree: object, prefix: str = "") -> dict[str, np.ndarray]:
    """Tensors under their dotted names; what is no tensor (flags, step counts) is left out."""
    if isinstance(tree, np.ndarray):
        return {prefix: tree}
    children = tree.attributes if isinstance(tree, _Shell) else tree if isinstance(tree, dict) else {}
    tensors = {}
    for name, child in children.items():
        tensors |= _flatten(child, f"{prefix}.{name}" if prefix else str(name))
    return tensors


def read(path: str) -> dict[str, np.ndarray]:
    """All tensors of a file, in their own types (float16 stays float16).

    Raises ValueError for a missing or foreign file, for one in PyTorch's format from before 2020, and for one whose
    pickle asks for anything but tensors.
    """
    if not os.path.isfile(path):
        raise ValueError(f"no weight file at {path}")
    if path.endswith(".safetensors"):
        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged or no safetensors file ({error})") from error
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path} is neither safetensors nor a zip archive of PyTorch (1.6 or later), or it is cut short; if it is "
            "older, load and save it again with a current PyTorch"
        )
    with zipfile.ZipFile(path) as archive:
        roots = [name.removesuffix("/data.pkl") for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(roots) != 1:
            raise ValueError(f"{path} is a zip archive without PyTorch's data.pkl; it holds no weights")
        order = f"{roots[0]}/byteorder"
        if order in archive.namelist() and archive.read(order) != b"little":
            raise ValueError(f"{path} was written on a big-endian machine; save it again on a usual one")
        try:
            tree = _Unpickler(archive, roots[0]).load()
        except Exception as error:  # a damaged pickle can fail in any way
            raise ValueError(f"{path} is refused: {error}") from error
    for wrapper in ("state_dict", "model"):  # training scripts wrap the weights with their optimiser; MAE says "model"
        if isinstance(tree, dict) and isinstance(tree.get(wrapper), dict):
            tree = tree[wrapper]
    return _flatten(tree)


def write(path: str, arrays: dict[str, np.ndarray]) -> None:
    """Writes safetensors. Raises ValueError where a file is already."""
    if os.path.exists(path):
        raise ValueError(f"{path} exists already; choose another name or delete it")
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    save_file({name: np.array(array, order="C") for name, array in arrays.items()}, path)  # it ignores strides
