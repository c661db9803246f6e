"""Arrays out of weight files: safetensors, `torch.save` files and TorchScript archives (`torch_files.py`).

In: a path; out: {name: NumPy array}.
"""

import os
import zipfile

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from save_jax.weights import torch_files


def read(path: str) -> dict[str, np.ndarray]:
    """All tensors of a file, in their own types (float16 stays float16); they may be read-only.

    Raises ValueError for a missing or foreign file, for one in PyTorch's format from before 2020, for one whose pickle
    asks for what no weights need, and for one that would take more memory than it holds.
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
    return dict(torch_files.read(path))


def shapes(path: str) -> dict[str, list[int]]:
    """Names and shapes in a safetensors file; its arrays are not read. Raises ValueError where it is none."""
    try:
        with safe_open(path, "numpy") as file:
            return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 — no mapping
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or no safetensors file ({error})") from error


def write(path: str, arrays: dict[str, np.ndarray]) -> None:
    """Writes safetensors. Raises ValueError where a file is already."""
    if os.path.exists(path):
        raise ValueError(f"{path} exists already; choose another name or delete it")
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    save_file({name: np.array(array, order="C") for name, array in arrays.items()}, path)  # it ignores strides
    os.chmod(path, os.stat(os.path.dirname(os.path.abspath(path))).st_mode & 0o666)  # it lets the owner alone read
