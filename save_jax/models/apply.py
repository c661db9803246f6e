"""Calling a method of a Flax module with its parameters."""

from collections.abc import Callable
from typing import Any, TypeVar

import flax.linen as nn
import jax

T = TypeVar("T")


def apply(method: Callable[..., T], module: nn.Module, params: dict, *inputs: object) -> T:
    """What `method`, such as `Retrieval.encode_video`, returns for these parameters and inputs.

    All its products have the precision of `module.sizes`, and so have their gradients.
    `module.apply` is declared to return a pair as well, which it does only where variables are mutable.
    """
    sizes: Any = getattr(module, "sizes")  # noqa: B009 — every model here has them, nn.Module declares none
    with jax.default_matmul_precision(sizes.precision):
        returned: Any = module.apply({"params": params}, *inputs, method=method)
    return returned
