"""The only file that names mesh axes: the mesh, how batches and parameters lie on it, and moving batches there.

Data parallelism is `jax.jit` with these shardings; losses and models are written over the global batch.
"""

from collections.abc import Mapping

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

DATA = "data"


def make_mesh(devices: list[jax.Device] | None = None) -> Mesh:
    """One axis over all devices (of all processes)."""
    devices = jax.devices() if devices is None else devices
    # Auto axes: the compiler places communication. The default, Explicit, would refuse `x @ x.T` over a sharded batch.
    return jax.make_mesh((len(devices),), (DATA,), devices=devices, axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole: parameters, optimiser state, scalars."""
    return NamedSharding(mesh, PartitionSpec())


def by_sample(mesh: Mesh) -> NamedSharding:
    """The first dimension is split over all devices: batches, embeddings."""
    return NamedSharding(mesh, PartitionSpec(DATA))


def check_batch_size(batch_size: int, mesh: Mesh) -> None:
    """Raises ValueError, with the nearest sizes that work, where the devices do not divide the batch."""
    devices = mesh.size
    if batch_size % devices or batch_size < 1:
        lower = batch_size // devices * devices
        tries = " or ".join(str(n) for n in (lower, lower + devices) if n)
        raise ValueError(
            f"batch_size {batch_size} is not divisible by {devices} devices; try {tries} (config.batch_size)"
        )


def to_devices(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This process's part of a batch → arrays of the global batch, split by sample."""
    sharding = by_sample(mesh)
    return {name: jax.make_array_from_process_local_data(sharding, array) for name, array in batch.items()}
