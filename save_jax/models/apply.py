"""Calling a method of a Flax module with its parameters."""

from collections.abc import Callable
from typing import Any, TypeVar

import flax.linen as nn

T = TypeVar("T")


def apply(method: Callable[..., T], module: nn.Module, params: dict, *inputs: object) -> T:
    """What `method`, such as `Retrieval.encode_video`, returns for these parameters and inputs.

    `module.apply` is declared to return a pair as well, which it does only where variables are mutable.
    """
    returned: Any = module.apply({"params": params}, *inputs, method=method)
    return returned
