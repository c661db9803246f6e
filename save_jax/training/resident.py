"""A training split in the memory of every device. Its tables are sent once; each step gathers its batch from them."""

import math
import os
from collections.abc import Mapping
from typing import TypeAlias

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from save_jax import sharding
from save_jax.data import pipeline
from save_jax.data.reader import PER_PAIR

# A long row lies on a device as PIECES pieces of whole tiles, which have up to 32 times 128 elements. A TPU copies a
# table of other rows as a whole before it gathers from it, in every step.
PIECES, TILE, LANES = 8, 32, 128
LONG = 1 << 17  # elements of a row; shorter ones stay as they are

SHARE = 0.6  # of a device's free memory that tables may take; the rest is for the step


Gather: TypeAlias = jax.stages.Wrapped  # (tables, rows) → batch


def load(data: pipeline.Data, config: ConfigDict, split: str, mesh: Mesh) -> tuple[dict[str, jax.Array], Gather]:
    """`pipeline.tables` of a split, replicated on all devices in pieces, and what gathers batches from them.

    Raises ValueError with both sizes if they do not fit.
    """
    shapes, problem = pipeline.table_shapes(data, config, split), ""
    try:
        check_fits(table_bytes(shapes), room(mesh))
    except ValueError as error:
        problem = str(error)
    if sharding.any_process(bool(problem)):  # all stop: those with room would wait for the others
        raise ValueError(problem or "config.data.resident: the training split does not fit in another process")
    tables, whole = pipeline.tables(data, config, split, pieces_shape), sharding.replicated(mesh)
    gather, sent = make_gather({name: shape[1:] for name, (shape, _) in shapes.items()}, mesh), {}
    while tables:  # one after the other, so that host memory is given back on the way
        name, table = tables.popitem()
        sent[name] = jax.make_array_from_process_local_data(whole, table, table.shape)
    return sent, gather


def pieces_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that a table has on the devices: [n, …] → [n · PIECES, m, LANES], or its own where rows are short.

    Rows are padded with zeros at their end.
    """
    elements = math.prod(shape[1:])
    tiles = -(-elements // (PIECES * TILE * LANES))
    return shape if elements < LONG else (PIECES * shape[0], tiles * TILE, LANES)


def table_bytes(shapes: Mapping[str, tuple[tuple[int, ...], np.dtype]]) -> int:
    """Bytes of tables as they lie on a device."""
    return sum(math.prod(pieces_shape(shape)) * dtype.itemsize for shape, dtype in shapes.values())


def _rows(table: jax.Array, numbers: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Within jit: rows of a table in pieces, each of `shape`."""
    if table.shape[1:] == shape:
        return table[numbers]
    pieces = PIECES * numbers[:, None] + np.arange(PIECES, dtype=np.int32)
    rows = table[pieces.reshape(-1)].reshape(len(numbers), -1)
    return rows[:, : math.prod(shape)].reshape(-1, *shape)


def room(mesh: Mesh) -> dict[str, int]:
    """Free bytes of the host, and of the fullest device of this process if its devices report them."""
    devices = mesh.local_devices
    stats = [stat for device in devices if "bytes_limit" in (stat := device.memory_stats() or {})]
    host = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if os.path.exists("/proc/meminfo"):
        with open("/proc/meminfo") as file:
            host = next(int(line.split()[1]) << 10 for line in file if line.startswith("MemAvailable"))
    if stats:
        return {"a device": min(stat["bytes_limit"] - stat["bytes_in_use"] for stat in stats), "the host": host}
    return {"the host, shared by its devices,": host // (len(devices) + 1)}  # each holds a copy of what is read


def check_fits(need: int, free: dict[str, int]) -> None:
    """Raises ValueError if tables of `need` bytes would take too much of the free bytes of any memory."""
    for name, size in free.items():
        if need > SHARE * size:
            raise ValueError(
                f"config.data.resident: the training split takes {need / 2**30:.2f} GiB, the memory of {name} has "
                f"{size / 2**30:.2f} GiB free, of which it may take {SHARE:.0%}; set config.data.resident=False, lower "
                "config.data.max_frames, or read fewer bytes of each clip (config.cache)"
            )


def make_gather(shapes: Mapping[str, tuple[int, ...]], mesh: Mesh) -> Gather:
    """The jitted (tables, rows) → batch, sharded by sample. It equals the batch of `train_iterator` bit for bit.

    `rows` has `pair`, int32 [b], as `pipeline.pair_iterator` gives it; the clips follow from it.

    Args:
        shapes: of a row of each table but `clip`.
    """

    def gather(tables: dict[str, jax.Array], rows: dict[str, jax.Array]) -> dict[str, jax.Array]:
        pair = rows["pair"]
        clip = tables["clip"][pair]
        return {
            name: _rows(table, pair if name in PER_PAIR else clip, shapes.get(name, ()))
            for name, table in tables.items()
        }

    whole, by_sample = sharding.replicated(mesh), sharding.by_sample(mesh)
    return jax.jit(gather, in_shardings=(whole, by_sample), out_shardings=by_sample)
