"""`torch.save` files and TorchScript archives → arrays, without PyTorch.

They are zip archives of raw storages and a pickle that says which tensor lies where. It is read by an unpickler that
knows tensors and dictionaries. Nothing in a file is ever imported or executed: what else training scripts store
(settings, numbers of NumPy, paths) becomes an empty shell, and what could do harm is refused.

Memory is bounded by the size of the file: storages lie in it as they are, tensors are views of them, and no tensor is
larger than its storage.
"""

import collections
import io
import os
import pickle
import pickletools
import sys
import zipfile
from collections.abc import Mapping

import numpy as np
from ml_dtypes import bfloat16

_STORAGES = {
    "FloatStorage": np.float32, "HalfStorage": np.float16, "BFloat16Storage": bfloat16, "DoubleStorage": np.float64,
    "LongStorage": np.int64, "IntStorage": np.int32, "ShortStorage": np.int16, "CharStorage": np.int8,
    "ByteStorage": np.uint8, "BoolStorage": np.bool_,
}  # fmt: skip
# Values of torch that stand beside tensors and are none. Other names of it may make tensors, which must not get lost.
_TORCH_VALUES = {"Size", "device", "Generator", "float32", "float16", "bfloat16", "float64", "int64", "int32", "bool"}
# From the standard library only what settings are made of. The rest of it is where harm would come from.
_PLAIN_MODULES = {"pathlib", "datetime", "decimal", "fractions", "uuid", "argparse", "types", "enum"}
_MOST_SHARED = 8  # tensors may share storages (tied weights): this many times the file in all
_MOST_ENTRIES, _DEEPEST = 1_000_000, 100


class _Shell:
    """Stands in for a TorchScript module, or for a value that is no tensor: holds attributes, runs nothing."""

    attributes: dict = {}  # noqa: RUF012 — an instance gets its own from `__setstate__`

    def __new__(cls, *_: object, **__: object) -> "_Shell":
        return super().__new__(cls)

    def __init__(self, *_: object, **__: object):
        pass

    def __setstate__(self, state: object) -> None:
        self.attributes = state if isinstance(state, dict) else {}

    def __setitem__(self, *_: object) -> None:
        """A dictionary of another library."""

    def append(self, _: object) -> None:
        """A list of another library."""

    extend = add = append


class _Value(_Shell):
    """A value that is no tensor; what it holds is none of the weights."""

    def __setstate__(self, state: object) -> None:
        pass


def _tensor(storage: np.ndarray, offset: int, shape: tuple, strides: tuple, *_: object) -> np.ndarray:
    size = int(np.prod([int(n) for n in shape], dtype=object)) if shape else 1
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True)) if size else 0
    if min((0, offset, *shape, *strides)) < 0 or last >= max(len(storage), 1):
        raise pickle.UnpicklingError(f"a tensor of shape {list(shape)} reaches outside its storage")
    if size > len(storage):
        raise pickle.UnpicklingError(
            f"a tensor of shape {list(shape)} repeats the {len(storage)} numbers of its storage; save it with .clone()"
        )
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, [s * storage.itemsize for s in strides])


def _parameter(tensor: np.ndarray, *_: object) -> np.ndarray:
    return tensor


def _subclass(make: object, _: object, arguments: tuple, *__: object) -> np.ndarray:
    if make not in (_tensor, _parameter):
        raise pickle.UnpicklingError("it holds a tensor of an unknown kind")
    return make(*arguments)  # pyright: ignore[reportCallIssue]


_KNOWN = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("collections", "defaultdict"): lambda *_: {},
    ("collections", "Counter"): _Value,
    ("collections", "deque"): _Value,
    ("_codecs", "encode"): _Value,  # bytes, as old protocols have them
    ("copyreg", "_reconstructor"): _Value,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch._tensor", "_rebuild_from_type_v2"): _subclass,
    # TorchScript's typed lists and dictionaries arrive as the plain ones that they are made of.
    ("torch.jit._pickle", "build_intlist"): lambda data: data,
    ("torch.jit._pickle", "build_doublelist"): lambda data: data,
    ("torch.jit._pickle", "build_boollist"): lambda data: data,
    ("torch.jit._pickle", "build_tensorlist"): lambda data: data,
    ("torch.jit._pickle", "restore_type_tag"): lambda data, _: data,
} | {(module, name): _Value for module in ("builtins", "__builtin__") for name in (
    "set", "frozenset", "list", "dict", "tuple", "int", "float", "str", "bool", "bytes", "bytearray", "complex",
    "slice", "range", "object",
)}  # fmt: skip


class _Unpickler(pickle.Unpickler):
    def __init__(self, archive: zipfile.ZipFile, root: str, content: bytes):
        super().__init__(io.BytesIO(content))
        self._archive, self._root = archive, root
        self._storages: dict[tuple[str, np.dtype], np.ndarray] = {}

    def find_class(self, module: str, name: str) -> object:
        top = module.split(".")[0]
        if (module, name) in _KNOWN:
            return _KNOWN[module, name]
        if module == "torch" and name in _STORAGES:
            return np.dtype(_STORAGES[name])
        if top == "__torch__":
            return _Shell
        if top == "torch":
            if module == "torch" and name in _TORCH_VALUES:
                return _Value
            if module.startswith("torch.nn.modules"):
                raise pickle.UnpicklingError(
                    f"it asks for {module}.{name}, which no weights need (a whole model; save its state_dict())"
                )
        elif top in _PLAIN_MODULES or (top not in sys.stdlib_module_names and top not in ("nt", "posix")):
            return _Value
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no weights need")

    def persistent_load(self, key: tuple) -> np.ndarray:
        kind, dtype, name, _, count = key
        if kind != "storage" or not isinstance(dtype, np.dtype):
            raise pickle.UnpicklingError("it refers to something that is no storage")
        if (name, dtype) not in self._storages:  # tied weights refer to one more than once
            self._storages[name, dtype] = np.frombuffer(_stored(self._archive, f"{self._root}/data/{name}"), dtype)
        return self._storages[name, dtype][:count]


def _stored(archive: zipfile.ZipFile, name: str) -> bytes:
    """The bytes of an entry, which PyTorch never packs: packed ones could be of any size."""
    entry = archive.getinfo(name)
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
        raise pickle.UnpicklingError(
            f"{name} is packed in it ({entry.compress_size} bytes for {entry.file_size}), as PyTorch never does; "
            "unpack the archive and zip it again without compression (zip -0)"
        )
    return archive.read(name)


def _check_pickle(content: bytes) -> None:
    """Refuses opcodes that would reserve memory for more than is there."""
    for opcode, argument, _ in pickletools.genops(content):  # fails where more is announced than there is
        if opcode.name in ("LONG_BINPUT", "PUT") and isinstance(argument, int) and argument > len(content):
            raise pickle.UnpicklingError(f"its pickle reserves {argument} places for {len(content)} bytes")


def _flatten(tree: object) -> dict[str, np.ndarray]:
    """Tensors under their dotted names; what is no tensor (flags, step counts) is left out."""
    tensors, waiting, seen = {}, [("", 0, tree)], 0
    while waiting:
        prefix, depth, node = waiting.pop()
        seen += 1
        if seen > _MOST_ENTRIES or depth > _DEEPEST:
            raise ValueError(f"it names more than {_MOST_ENTRIES:,} things, or some {_DEEPEST} deep in others")
        if isinstance(node, np.ndarray):
            tensors[prefix] = node
            continue
        children = node.attributes if isinstance(node, _Shell) else node if isinstance(node, dict) else {}
        waiting += [
            (f"{prefix}.{name}" if prefix else str(name), depth + 1, child)
            for name, child in reversed(children.items())
            if isinstance(name, str | int)
        ]
    return tensors


def read(path: str) -> Mapping[str, np.ndarray]:
    """Tensors of a zip archive of PyTorch, read-only. Raises ValueError as `files.read`."""
    with zipfile.ZipFile(path) as archive:
        entries, size = archive.infolist(), os.path.getsize(path)
        roots = [entry.filename.removesuffix("/data.pkl") for entry in entries if entry.filename.endswith("/data.pkl")]
        if len(roots) != 1:
            raise ValueError(f"{path} is a zip archive without PyTorch's data.pkl; it holds no weights")
        if sum(entry.compress_size for entry in entries) > size:
            raise ValueError(f"{path} is refused: its entries overlap")
        try:
            order = f"{roots[0]}/byteorder"
            if order in archive.namelist() and _stored(archive, order) != b"little":
                raise ValueError("it was written on a big-endian machine; save it again on a usual one")
            content = _stored(archive, f"{roots[0]}/data.pkl")
            _check_pickle(content)
            tree = _Unpickler(archive, roots[0], content).load()
            # Training scripts wrap the weights with their optimiser; MAE says "model".
            for wrapper in ("state_dict", "model_state_dict", "model"):
                if isinstance(tree, dict) and isinstance(tree.get(wrapper), dict):
                    tree = tree[wrapper]
            tensors = _flatten(tree)
            total = sum(tensor.nbytes for tensor in tensors.values())
            if total > _MOST_SHARED * size:
                raise ValueError(f"its tensors share their storages until they are {total // size} times the file")
        except Exception as error:  # a damaged pickle can fail in any way
            raise ValueError(f"{path} is refused: {error}") from error
    return tensors
