"""Parameter trees as flat dictionaries of names, and their digest."""

import hashlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

Flat = dict[str, jax.Array]  # "vision/block_0/ln_1/scale" → array


def flatten(params: Mapping) -> Flat:
    """A parameter tree as one flat dictionary."""
    flat: Any = flatten_dict(dict(params), sep="/")  # declared for any leaves and any keys
    return flat


def unflatten(flat: Mapping[str, jax.Array]) -> dict:
    """The inverse of `flatten`."""
    return unflatten_dict(dict(flat), sep="/")


def digest(params: dict) -> str:
    """SHA-256 over the names, shapes and bytes of all parameters. They must be addressable in this process."""
    sha = hashlib.sha256()
    for name, x in sorted(flatten(params).items()):
        x = np.asarray(x)
        sha.update(f"{name} {x.dtype} {x.shape}\n".encode())
        sha.update(np.ascontiguousarray(x).tobytes())
    return sha.hexdigest()
