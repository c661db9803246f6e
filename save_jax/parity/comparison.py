"""One line of a parity table, and how it is printed."""

import dataclasses

import numpy as np
from numpy.typing import ArrayLike

OK, WRONG, UNKNOWN, NOTE = "ok", "WRONG", "UNKNOWN", "note"


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


def print_table(title: str, rows: list[Row]) -> int:
    """Prints the rows of one file and a summary; returns how many failed."""
    width = max((len(row.quantity) for row in rows), default=8)
    print(f"\n{title}\n{'quantity':{width}}  {'max abs':>9}  {'max rel':>9}  {'allowed':>9}  verdict")
    for row in rows:
        numbers = (f"{x:9.2e}" if np.isfinite(x) else f"{'–':>9}" for x in (row.error, row.relative, row.tolerance))
        print(f"{row.quantity:{width}}  {'  '.join(numbers)}  {row.verdict}")
    failed = sum(row.failed for row in rows)
    print(f"{len(rows) - failed} of {len(rows)} hold" + (f", {failed} DO NOT" if failed else ""))
    return failed
