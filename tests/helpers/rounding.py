"""What an accelerator's faster products do to a program, emulated on whatever computes.

GPUs round the operands of float32 products to TF32 (10 bits of mantissa), TPUs to bfloat16 (7 bits), unless "highest"
precision is asked for. Here a program is traced, and operands of exactly those products are rounded: products that ask
for more, such as the score's, and those of other types stay as they are.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

from helpers.jaxprs import PRODUCTS

TF32, BFLOAT16 = 10, 7  # bits of mantissa
CALLS = ("jit", "pjit", "closed_call", "remat", "remat2", "checkpoint", "custom_jvp_call", "custom_vjp_call")


def with_rounded_products(function: Callable, bits: int) -> Callable:
    """The function, of trees of arrays, compiled with operands of its float32 products rounded to `bits` bits."""

    def run(*arguments: Any) -> Any:
        program, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
        rounded = jax.jit(lambda *leaves: _evaluate(program.jaxpr, program.consts, leaves, bits))
        return jax.tree.unflatten(jax.tree.structure(shapes), rounded(*jax.tree.leaves(arguments)))

    return run


def _evaluate(jaxpr: Any, constants: Any, inputs: Any, bits: int) -> list:
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *inputs], strict=True))
    for equation in jaxpr.eqns:
        operands = [x.val if isinstance(x, Literal) else values[x] for x in equation.invars]
        name, params = equation.primitive.name, equation.params
        if name in CALLS:
            inner = params.get("jaxpr", params.get("call_jaxpr"))
            closed = isinstance(inner, ClosedJaxpr)
            results = _evaluate(inner.jaxpr if closed else inner, inner.consts if closed else [], operands, bits)
        else:
            if name in PRODUCTS and operands[0].dtype == np.float32 and _may_round(params["precision"]):
                operands = [jax.lax.reduce_precision(x, exponent_bits=8, mantissa_bits=bits) for x in operands]
            # Bodies of loops and branches.
            params = {key: _rounded_parameter(value, bits) for key, value in params.items()}
            results = equation.primitive.bind(*operands, **params)
            results = results if equation.primitive.multiple_results else [results]
        values |= dict(zip(equation.outvars, results, strict=True))
    return [x.val if isinstance(x, Literal) else values[x] for x in jaxpr.outvars]


def _may_round(precision: Any) -> bool:
    highest, algorithm = jax.lax.Precision.HIGHEST, jax.lax.DotAlgorithmPreset
    return not isinstance(precision, algorithm) and (precision is None or set(precision) != {highest})


def _rounded_parameter(value: Any, bits: int) -> Any:
    if type(value) is tuple:  # of branches; what describes axes has types of its own
        return tuple(_rounded_parameter(x, bits) for x in value)
    if not isinstance(value, ClosedJaxpr):
        return value

    def evaluated(*inputs: Any) -> list:
        return _evaluate(value.jaxpr, value.consts, inputs, bits)

    return jax.make_jaxpr(evaluated)(*(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in value.in_avals))
