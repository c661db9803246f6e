"""Training batches on their way to the devices."""

from collections.abc import Generator

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from save_jax import sharding
from save_jax.data import pipeline
from save_jax.training import resident


def device_batches(
    data: pipeline.Data, config: ConfigDict, mesh: Mesh, start: int, signals: list[int]
) -> tuple[pipeline.Batches, Generator[dict[str, jax.Array]]]:
    """Training batches from number `start` on. The caller closes both iterators.

    Returns:
        This process's rows of the batches, and the global batches on the devices, sent two batches ahead. Each of these
        has `stop`: whether any signal was in `signals` when it was sent.
    """
    share = {"start": start, "process": jax.process_index(), "processes": jax.process_count()}

    def send(batch: pipeline.Batch) -> dict[str, jax.Array]:
        return sharding.to_devices(batch | {"stop": np.full(len(batch["clip"]), bool(signals))}, mesh)

    if not config.data.resident:
        batches = pipeline.train_iterator(data, config, "train", **share)
        return batches, pipeline.prefetch(batches, send)
    tables, gather = resident.load(data, config, "train", mesh)
    batches = pipeline.pair_iterator(data, config, "train", **share)

    def send_numbers(numbers: pipeline.Batch) -> dict[str, jax.Array]:
        sent = send(numbers)
        return gather(tables, {"pair": sent["pair"]}) | {"stop": sent["stop"]}

    return batches, pipeline.prefetch(batches, send_numbers)
