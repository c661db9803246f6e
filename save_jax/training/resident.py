"""A training split in the memory of every device. Its tables are sent once; each step gathers its batch from them."""

import os
from collections.abc import Callable

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from save_jax import sharding
from save_jax.data import pipeline
from save_jax.data.reader import PER_PAIR

SHARE = 0.6  # of a device's free memory that tables may take; the rest is for the step


def load(data: pipeline.Data, config: ConfigDict, split: str, mesh: Mesh) -> dict[str, jax.Array]:
    """`pipeline.tables` of a split, replicated on all devices. Raises ValueError with both sizes if they do not fit."""
    problem = ""
    try:
        check_fits(pipeline.table_bytes(data, config, split), room(mesh))
    except ValueError as error:
        problem = str(error)
    if sharding.any_process(bool(problem)):  # all stop: those with room would wait for the others
        raise ValueError(problem or "config.data.resident: the training split does not fit in another process")
    tables, whole = pipeline.tables(data, config, split), sharding.replicated(mesh)
    sent = {}
    while tables:  # one after the other, so that host memory is given back on the way
        name, table = tables.popitem()
        sent[name] = jax.make_array_from_process_local_data(whole, table, table.shape)
    return sent


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


def make_gather(mesh: Mesh) -> Callable[[dict, dict], dict]:
    """The jitted (tables, rows) → batch, sharded by sample. It equals the batch of `train_iterator` bit for bit.

    `rows` has `pair`, int32 [b], as `pipeline.pair_iterator` gives it; the clips follow from it.
    """

    def gather(tables: dict[str, jax.Array], rows: dict[str, jax.Array]) -> dict[str, jax.Array]:
        pair = rows["pair"]
        clip = tables["clip"][pair]
        return {name: table[pair if name in PER_PAIR else clip] for name, table in tables.items()}

    whole, by_sample = sharding.replicated(mesh), sharding.by_sample(mesh)
    return jax.jit(gather, in_shardings=(whole, by_sample), out_shardings=by_sample)
