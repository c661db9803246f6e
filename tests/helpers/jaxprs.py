"""What a traced program computes, counted from its own equations."""

import numpy as np
from jax.extend.core import jaxprs_in_params

PRODUCTS = ("dot_general", "conv_general_dilated")


def precisions(jaxpr) -> set[str]:
    """Precisions of all products of float32 in a jaxpr, loops and calls included."""
    found = {
        str(equation.params["precision"])
        for equation in jaxpr.eqns
        if equation.primitive.name in PRODUCTS and equation.invars[0].aval.dtype == np.float32
    }
    return found.union(*(precisions(inner) for e in jaxpr.eqns for inner in jaxprs_in_params(e.params)))


def products(jaxpr) -> int:
    """2·m·n·k of every matrix product and convolution of a jaxpr, loops and calls included."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (left, _), _ = equation.params["dimension_numbers"]
            inner = np.prod([equation.invars[0].aval.shape[axis] for axis in left])
            total += 2 * int(np.prod(equation.outvars[0].aval.shape) * inner)
        elif equation.primitive.name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape  # height, width, in, out
            total += 2 * int(np.prod(equation.outvars[0].aval.shape) * np.prod(kernel[:-1]))
        for inner in jaxprs_in_params(equation.params):
            total += products(inner)
    return total
