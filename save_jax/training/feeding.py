"""Training batches on their way to the devices."""

from collections.abc import Iterator

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from save_jax import sharding
from save_jax.data import pipeline
from save_jax.training import resident


def device_batches(
    data: pipeline.Data, config: ConfigDict, mesh: Mesh, start: int, stopped: list[int]
) -> tuple[Iterator[pipeline.Batch], Iterator[dict[str, jax.Array]]]:
    """This process's part of the training batches from number `start` on, to be closed in the end; and the same global
    batches on the devices, two of them ahead, each with `stop`: whether a signal was in `stopped` when it was sent.
    """
    share = {"start": start, "process": jax.process_index(), "processes": jax.process_count()}

    def send(batch: pipeline.Batch) -> dict[str, jax.Array]:
        return sharding.to_devices(batch | {"stop": np.full(len(batch["clip"]), bool(stopped))}, mesh)

    if not config.data.resident:
        batches = pipeline.train_iterator(data, config, **share)
        return batches, pipeline.prefetch(batches, send)
    tables, gather = resident.load(data, config, "train", mesh), resident.make_gather(mesh)
    batches = pipeline.pair_iterator(data, config, **share)

    def send_numbers(numbers: pipeline.Batch) -> dict[str, jax.Array]:
        sent = send(numbers)
        return gather(tables, {"pair": sent["pair"]}) | {"stop": sent["stop"]}

    return batches, pipeline.prefetch(batches, send_numbers)
