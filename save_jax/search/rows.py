"""Rows of a LanceDB table by their places, and arrays out of its columns of bytes."""

from typing import Any

import numpy as np
import pyarrow as pa


def take(table: Any, offsets: np.ndarray, columns: list[str]) -> pa.Table:
    """Rows in the order asked for."""
    order = np.argsort(offsets, kind="stable")
    taken = table.take_offsets(offsets[order].tolist()).select(columns).to_arrow()
    return taken.take(pa.array(np.argsort(order)))


def arrays(column: pa.ChunkedArray, *shape: int) -> np.ndarray:
    """float16 [n, *shape]."""
    return np.stack([np.frombuffer(value.as_buffer(), np.float16).reshape(shape) for value in column])
