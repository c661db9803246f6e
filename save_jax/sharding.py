"""The only file that names mesh axes: processes, the mesh, and the shardings of batches and train states.

Data parallelism is `jax.jit` with these shardings. Losses and models are written over the global batch.
"""

import importlib.metadata
import re
import zlib
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import save_jax

Device: TypeAlias = jax.Device  # pyright: ignore[reportInvalidTypeForm] — JAX declares it as a variable

DATA = "data"
SMALLEST_SPLIT = 1 << 14  # smaller arrays stay replicated: an all-gather would cost more than it saves
TABLES = ("token_embedding']", "word_embedding']")  # ends of the paths of tables that words are looked up in
Tree = TypeVar("Tree")
Flat: TypeAlias = dict[str, jax.Array]


def start_processes(address: str = "", processes: int = 0, process: int = -1) -> None:
    """Joins this process to the others of a run. Call it before anything else uses a device.

    Args:
        address: HOST:PORT of process 0; "" for a run of one process. "auto": the cluster tells JAX everything (TPU
            pods, SLURM, Open MPI). Under SLURM and Open MPI each process uses one GPU, so start as many processes as
            GPUs.
        processes, process: the number of processes, and the number of this one. Only with HOST:PORT.
    Raises:
        ValueError for an incomplete address, or "auto" outside a cluster. If the others do not join within five
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


def make_mesh(devices: Sequence[Device] | None = None) -> Mesh:
    """One axis over all devices of all processes, ordered by process: process p holds the p-th part of a batch.

    `jax.make_mesh` would order TPUs by their wiring. Rows gathered from all devices would then be in another order than
    the rows that were sent.
    """
    devices = sorted(devices or jax.devices(), key=lambda device: (device.process_index, device.id))
    # Auto axes: the compiler places communication. Explicit axes, the default, would refuse `x @ x.T` of a sharded x.
    return Mesh(np.array(devices), (DATA,), axis_types=(AxisType.Auto,))


def platform(mesh: Mesh) -> str:
    """What the devices of a mesh are: "cpu", "gpu" or "tpu". They need not be in this machine."""
    return mesh.devices.flat[0].platform


def local(mesh: Mesh) -> Mesh:
    """The mesh of this process's own devices, for what each process computes on its own."""
    return make_mesh([device for device in mesh.devices.flat if device.process_index == jax.process_index()])


def replicated(mesh: Mesh) -> NamedSharding:
    """Replicated: every device holds the whole array. For parameters, optimiser state, scalars."""
    return NamedSharding(mesh, PartitionSpec())


def by_sample(mesh: Mesh) -> NamedSharding:
    """Sharded by the first dimension over all devices. For batches and embeddings."""
    return NamedSharding(mesh, PartitionSpec(DATA))


def of_state(tree: Tree, mesh: Mesh, mode: str) -> Tree:
    """The shardings of parameters and optimiser state.

    Args:
        tree: anything with shapes.
        mode: config.sharding. "replicated": every device holds everything. "fsdp": every large array is sharded along
            the longest of its dimensions that the number of devices divides. A step all-gathers the parameters.
            Gradients, optimiser moments and updates stay sharded: each device computes its own shard of them. Tables
            that words are looked up in stay replicated: a step reads few of their rows, and would gather all.
    Returns:
        A tree of shardings with the structure of `tree`.
    """

    def of_array(path: jax.tree_util.KeyPath, x: jax.Array) -> NamedSharding:
        fitting = [axis for axis, length in enumerate(x.shape) if length % mesh.size == 0]
        table = jax.tree_util.keystr(path).endswith(TABLES)
        if mode == "replicated" or table or not fitting or np.prod(x.shape) < SMALLEST_SPLIT:
            return replicated(mesh)
        axis = max(fitting, key=lambda axis: x.shape[axis])
        return NamedSharding(mesh, PartitionSpec(*[None] * axis, DATA))

    return jax.tree_util.tree_map_with_path(of_array, tree)


def gathered(tree: Tree, mesh: Mesh) -> Tree:
    """Within jit: all-gathers sharded arrays. They stay on the device until the last gradient that needs them."""
    return jax.lax.with_sharding_constraint(tree, replicated(mesh))


def gathered_kernels(params: Flat, mesh: Mesh, mode: str, dtype: str, exact: str) -> Flat:
    """As `gathered` of flat parameters, but matrices are cast to the dtype that they are multiplied in before it.

    Half the bytes are gathered, and half of those of gradients reduced, straight into shards. The products are the
    same.

    Args:
        mode: config.sharding.
        dtype: config.model.dtype.
        exact: pattern of names of the kernels that the model does not cast before anything else.
    """

    def of_one(name: str, x: jax.Array) -> jax.Array:
        if mode == "fsdp" and dtype != "float32" and name.endswith("/kernel") and not re.search(exact, name):
            x = x.astype(dtype)
            x = jax.lax.with_sharding_constraint(x, of_state(x, mesh, mode))  # else the cast would come after it
        return x

    return gathered({name: of_one(name, x) for name, x in params.items()}, mesh)


def whole(tree: Tree, mesh: Mesh) -> Tree:
    """Outside jit: all-gathers sharded arrays, so that every process can read them."""
    return jax.jit(lambda tree: tree, out_shardings=replicated(mesh))(tree)


def say(text: str) -> None:
    """Prints at once. Of several processes only the first one prints."""
    if jax.process_index() == 0:
        print(text, flush=True)


def of_first(number: float) -> float:
    """The first process's number (as float32), in every process. For decisions that all processes must share."""
    return float(multihost_utils.broadcast_one_to_all(np.float32(number)))


def agree(what: str, text: str) -> None:
    """Raises ValueError in every process if `text` differs between them.

    Args:
        what: the name of the text in the error.
        text: must be the same in every process.
    """
    number = zlib.crc32(text.encode())
    everywhere = np.ravel(multihost_utils.process_allgather(np.uint32(number)))
    if len(set(everywhere.tolist())) > 1:
        others = [process for process, crc in enumerate(everywhere) if crc != everywhere[0]]
        raise ValueError(f"{what} differs between process 0 and process {others[0]}; start all with the same")


def agree_on_versions() -> None:
    """Raises ValueError in every process if one of them runs another version: they would wait for each other for ever.

    Each compiles for itself, and must get the same program.
    """
    if jax.process_count() > 1:
        known = {one.name: one.version for one in importlib.metadata.distributions()} | {"jax": jax.__version__}
        names = sorted(name for name in known if re.fullmatch(r"jax|jaxlib|(jax.cuda|libtpu|nvidia.cudnn).*", name))
        ours = ", ".join([f"save_jax {save_jax.__version__}", *(f"{name} {known[name]}" for name in names)])
        agree(f"what is installed ({ours} in this process)", ours)


def any_process(here: bool) -> bool:
    """Whether `here` is true in any process."""
    return bool(np.any(multihost_utils.process_allgather(np.uint32(here))))


def split_rows(x: jax.Array, parts: int, mesh: Mesh) -> jax.Array:
    """Within jit: [b, …] → [parts, b / parts, …]. Every part takes an equal share of each device's rows.

    So no row moves to another device.
    """
    devices, rest = mesh.size, x.shape[1:]
    x = x.reshape(devices, parts, -1, *rest).swapaxes(0, 1).reshape(parts, -1, *rest)
    return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, PartitionSpec(None, DATA)))


def join_rows(x: jax.Array, mesh: Mesh) -> jax.Array:
    """The inverse of `split_rows`."""
    (parts, _, *rest), devices = x.shape, mesh.size
    x = x.reshape(parts, devices, -1, *rest).swapaxes(0, 1).reshape(-1, *rest)
    return jax.lax.with_sharding_constraint(x, by_sample(mesh))


def check_batch_size(batch_size: int, mesh: Mesh, name: str = "batch_size") -> None:
    """Raises ValueError, with the nearest sizes that work, if the number of devices does not divide the batch."""
    devices = mesh.size
    if batch_size % devices or batch_size < 1:
        lower = batch_size // devices * devices
        tries = " or ".join(str(n) for n in (lower, lower + devices) if n)
        raise ValueError(f"{name} {batch_size} is not divisible by {devices} devices; try {tries} (config.{name})")


def rows_of_process(count: int) -> slice:
    """This process's rows of a batch of `count`."""
    share = count // jax.process_count()
    return slice(jax.process_index() * share, (jax.process_index() + 1) * share)


def to_devices(batch: Any, mesh: Mesh) -> Any:
    """This process's rows of a batch, a tree of NumPy arrays → arrays of the global batch, sharded by sample."""
    sharding = by_sample(mesh)
    return jax.tree.map(lambda array: jax.make_array_from_process_local_data(sharding, array), batch)


def on_host() -> AbstractContextManager:
    """Within, what has no place yet is computed on this process's CPU, where JAX_PLATFORMS does not leave it out."""
    try:
        return jax.default_device(jax.local_devices(backend="cpu")[0])
    except RuntimeError:  # no such platform
        return nullcontext()


def from_host(x: jax.Array, where: NamedSharding) -> jax.Array:
    """An array that every process holds → laid out so; each device gets its shard alone."""
    numbers = np.asarray(x)
    return jax.make_array_from_callback(numbers.shape, where, lambda index: numbers[index])
