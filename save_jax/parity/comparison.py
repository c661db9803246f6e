"""What may differ by how much, by how products are computed; one line of a parity table, and how it is printed."""

import dataclasses

import numpy as np
from numpy.typing import ArrayLike

from save_jax.evaluation import audit

OK, WRONG, UNKNOWN, NOTE = "ok", "WRONG", "UNKNOWN", "note"


@dataclasses.dataclass(frozen=True)
class Tolerances:
    """Relative to the largest value of a tensor; the file's own rounding noise, three times, is always granted."""

    outputs: float
    losses: float
    gradients: float
    probes: float  # of whole gradients, to their norms
    changes: float | None  # of parameters, by optimiser steps; None: not compared


# By what is computed. The figures are the largest errors on SAVE's and AVIGATE's files of tests/golden; those of TF32
# and of bfloat16 products were emulated on a CPU (tests/helpers/rounding.py), and no accelerator has confirmed them.
# But for float32, sums over whole gradients may be further off than their elements, since rounding leans to one side.
# And no parameters are compared after optimiser steps: Adam divides a gradient by its own size, so that small noisy
# ones move a parameter as far as large ones do, and paths part after the first change.
TOLERANCES = {
    # 23 bits of mantissa. Sums in another order: outputs 5e-5, losses 1e-6, gradients 8e-5, probes 1e-4; the rest is
    # room for the orders of other devices.
    "float32": Tolerances(outputs=1e-4, losses=1e-5, gradients=1e-3, probes=1e-3, changes=1e-2),
    # 10 bits of every operand. Rounded to the nearest: outputs 2e-3, losses 6e-4, gradients 0.014, probes 0.05. A GPU
    # may also cut the other bits off: 7e-3, 6e-4, 0.06, 0.1. Twice that is allowed; losses three times.
    "tf32": Tolerances(outputs=0.015, losses=2e-3, gradients=0.12, probes=0.2, changes=None),
    # 7 bits of every operand, with all between products in float32: outputs 0.03, losses 6e-4, gradients 0.11, probes
    # 0.36. Twice that is allowed; losses more, whose error is a sum that may cancel.
    "bfloat16 products": Tolerances(outputs=0.06, losses=5e-3, gradients=0.25, probes=0.7, changes=None),
    # The same, and 7 bits of what flows between products. Measured: outputs 0.03 (gates 0.07), losses 0.006, gradients
    # 0.2, their sums half a norm.
    "bfloat16": Tolerances(outputs=0.1, losses=2e-2, gradients=0.4, probes=1.0, changes=None),
}
COMPUTATIONS = {  # by name: config.model.dtype and config.model.precision
    "float32": ("float32", "highest"),
    "high": ("float32", "high"),
    "default": ("float32", "default"),
    "bfloat16": ("bfloat16", "default"),
}


def arithmetic(computation: str, platform: str) -> str:
    """The key of TOLERANCES of one of COMPUTATIONS on "cpu", "gpu" or "tpu".

    "high" on a TPU is three products of bfloat16, which keep more than TF32 does and are held to its tolerances.
    """
    dtype, precision = COMPUTATIONS[computation]
    if dtype == "bfloat16":
        return "bfloat16"
    return {23: "float32", 10: "tf32", 7: "bfloat16 products"}[audit.kept_bits(platform, precision)]


@dataclasses.dataclass(frozen=True)
class Row:
    """One quantity: its largest absolute and relative error, what is allowed, and the verdict."""

    quantity: str
    error: float
    relative: float  # to the largest value of the reference
    tolerance: float
    verdict: str

    @property
    def failed(self) -> bool:
        return self.verdict in (WRONG, UNKNOWN)


def compare(quantity: str, ours: ArrayLike, theirs: ArrayLike, tolerance: float) -> Row:
    """Compares two arrays, element by element. Other shapes and NaN are wrong whatever the tolerance."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if ours.shape != theirs.shape:
        return Row(f"{quantity}: shape {ours.shape}, should be {theirs.shape}", np.inf, np.inf, tolerance, WRONG)
    error = float(np.abs(ours - theirs).max(initial=0.0))
    largest = float(np.abs(theirs).max(initial=0.0))
    relative = error / largest if largest else float(error > 0)
    return Row(quantity, error, relative, float(tolerance), OK if error <= tolerance else WRONG)


def unknown(name: str) -> Row:
    """A name in the file that nothing here computes: never passed over in silence."""
    return Row(name, np.nan, np.nan, np.nan, UNKNOWN)


def note(text: str) -> Row:
    """Something that the file holds and that, as it says, must not be compared."""
    return Row(text, np.nan, np.nan, np.nan, NOTE)


def print_table(title: str, rows: list[Row], failed_only: bool = False) -> int:
    """Prints the rows of one file, or those that failed, and a summary; returns how many failed."""
    shown = [row for row in rows if row.failed or not failed_only]
    width = max((len(row.quantity) for row in shown), default=8)
    print(f"\n{title}\n{'quantity':{width}}  {'max abs':>9}  {'max rel':>9}  {'allowed':>9}  verdict")
    for row in shown:
        numbers = (f"{x:9.2e}" if np.isfinite(x) else f"{'–':>9}" for x in (row.error, row.relative, row.tolerance))
        print(f"{row.quantity:{width}}  {'  '.join(numbers)}  {row.verdict}")
    failed = sum(row.failed for row in rows)
    print(f"{len(rows) - failed} of {len(rows)} hold" + (f", {failed} DO NOT" if failed else ""))
    return failed
