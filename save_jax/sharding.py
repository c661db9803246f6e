"""The only file that names mesh axes: processes, the mesh, how batches and states lie on it, and moving them there.

Data parallelism is `jax.jit` with these shardings; losses and models are written over the global batch.
"""

import zlib
from collections.abc import Mapping
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

DATA = "data"
SMALLEST_SPLIT = 1 << 14  # arrays of fewer numbers are not worth a message to put them together again
Tree = TypeVar("Tree")


def start_processes(address: str = "", processes: int = 0, process: int = -1) -> None:
    """Joins this process to the others of a run, before anything else touches a device.

    Args:
        address: HOST:PORT of process 0; "auto" where the cluster says everything (TPU pods; SLURM and Open MPI, where
            each process takes one GPU, so that there must be as many processes as GPUs); "" for one process alone.
        processes, process: how many there are, and which this is; only beside a plain address.
    Raises:
        ValueError for a part that is missing, or a cluster that is not there. Where the others do not come within five
        minutes, JAX ends the process.
    """
    if not address:
        if processes > 1 or process > 0:
            raise ValueError("--processes and --process need --coordinator=HOST:PORT of process 0")
        return
    if address == "auto":
        try:
            jax.distributed.initialize()
        except ValueError as error:
            raise ValueError(
                f"--coordinator=auto finds no TPU pod, SLURM or Open MPI here ({error}); give HOST:PORT of process 0 "
                "with --processes and --process"
            ) from error
        return
    if processes < 1 or not 0 <= process < processes or ":" not in address:
        raise ValueError(
            f"--coordinator={address} --processes={processes} --process={process}: give HOST:PORT of process 0, the "
            "number of processes, and the number of this one, from 0"
        )
    print(f"process {process} waits at {address} for {processes} in all, up to five minutes", flush=True)
    jax.distributed.initialize(address, processes, process)


def make_mesh(devices: list[jax.Device] | None = None) -> Mesh:
    """One axis over all devices (of all processes), process by process: process p's rows are the p-th part of a batch.

    `jax.make_mesh` would order TPUs by their wiring, and rows gathered from all of them would be in another order than
    those that were sent.
    """
    devices = sorted(devices or jax.devices(), key=lambda device: (device.process_index, device.id))
    # Auto axes: the compiler places communication. The default, Explicit, would refuse `x @ x.T` over a sharded batch.
    return Mesh(np.array(devices), (DATA,), axis_types=(AxisType.Auto,))


def local(mesh: Mesh) -> Mesh:
    """The mesh of this process's own devices, for what every process computes for itself."""
    return make_mesh([device for device in mesh.devices.flat if device.process_index == jax.process_index()])


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole: parameters, optimiser state, scalars."""
    return NamedSharding(mesh, PartitionSpec())


def by_sample(mesh: Mesh) -> NamedSharding:
    """The first dimension is split over all devices: batches, embeddings."""
    return NamedSharding(mesh, PartitionSpec(DATA))


def of_state(tree: Tree, mesh: Mesh, mode: str) -> Tree:
    """How parameters and optimiser state lie on the mesh: a tree of shardings like `tree` (of anything with shapes).

    Args:
        mode: config.sharding. "replicated", or "fsdp": every large array is split along its longest dimension that the
            devices divide. Each device keeps and updates its part alone; during a step it holds the whole parameters,
            too, but neither moments nor the update of others' parts.
    """

    def of_array(x: jax.Array) -> NamedSharding:
        fitting = [axis for axis, length in enumerate(x.shape) if length % mesh.size == 0]
        if mode == "replicated" or not fitting or np.prod(x.shape) < SMALLEST_SPLIT:
            return replicated(mesh)
        axis = max(fitting, key=lambda axis: x.shape[axis])
        return NamedSharding(mesh, PartitionSpec(*[None] * axis, DATA))

    return jax.tree.map(of_array, tree)


def gathered(tree: Tree, mesh: Mesh) -> Tree:
    """Within jit: the whole arrays on every device. They stay from their first use to the last one's gradient."""
    return jax.lax.with_sharding_constraint(tree, replicated(mesh))


def whole(tree: Tree, mesh: Mesh) -> Tree:
    """Outside jit: the whole arrays on every device, so that every process may read them."""
    return jax.jit(lambda tree: tree, out_shardings=replicated(mesh))(tree)


def say(text: str) -> None:
    """Prints at once, in the first of several processes alone."""
    if jax.process_index() == 0:
        print(text, flush=True)


def of_first(number: float) -> float:
    """The first process's number (as float32), in every process: for decisions that all must take alike."""
    return float(multihost_utils.broadcast_one_to_all(np.float32(number)))


def agree(what: str, found: str) -> None:
    """Raises ValueError in every process where one found something else than the first one did.

    Args:
        what: named in the error.
        found: a text that must be the same everywhere.
    """
    number = zlib.crc32(found.encode())
    everywhere = np.ravel(multihost_utils.process_allgather(np.uint32(number)))
    if len(set(everywhere.tolist())) > 1:
        others = [process for process, crc in enumerate(everywhere) if crc != everywhere[0]]
        raise ValueError(f"{what} differs between process 0 and process {others[0]}; start all with the same")


def any_process(here: bool) -> bool:
    """Whether it is so in any process."""
    return bool(np.any(multihost_utils.process_allgather(np.uint32(here))))


def split_rows(x: jax.Array, parts: int, mesh: Mesh) -> jax.Array:
    """Within jit: [b, …] → [parts, b / parts, …], of each device's rows a share in every part; nothing moves."""
    devices, rest = mesh.size, x.shape[1:]
    x = x.reshape(devices, parts, -1, *rest).swapaxes(0, 1).reshape(parts, -1, *rest)
    return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, PartitionSpec(None, DATA)))


def join_rows(x: jax.Array, mesh: Mesh) -> jax.Array:
    """The inverse of `split_rows`."""
    (parts, _, *rest), devices = x.shape, mesh.size
    x = x.reshape(parts, devices, -1, *rest).swapaxes(0, 1).reshape(-1, *rest)
    return jax.lax.with_sharding_constraint(x, by_sample(mesh))


def check_batch_size(batch_size: int, mesh: Mesh, name: str = "batch_size") -> None:
    """Raises ValueError, with the nearest sizes that work, where the devices do not divide the batch."""
    devices = mesh.size
    if batch_size % devices or batch_size < 1:
        lower = batch_size // devices * devices
        tries = " or ".join(str(n) for n in (lower, lower + devices) if n)
        raise ValueError(f"{name} {batch_size} is not divisible by {devices} devices; try {tries} (config.{name})")


def rows_of_process(count: int) -> slice:
    """This process's rows of a batch of `count`."""
    share = count // jax.process_count()
    return slice(jax.process_index() * share, (jax.process_index() + 1) * share)


def to_devices(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This process's rows of a batch → arrays of the global batch, split by sample."""
    sharding = by_sample(mesh)
    return {name: jax.make_array_from_process_local_data(sharding, array) for name, array in batch.items()}
