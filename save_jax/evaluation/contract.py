"""The contract of every method's evaluator, and the result of an evaluation."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from save_jax import sharding
from save_jax.data.pipeline import Data
from save_jax.data.reader import Batch
from save_jax.data.records import Clip
from save_jax.data.split_info import SplitInfo

Change = Callable[[Clip, int], Clip]  # changes a clip, given its number, before the model reads it


@dataclasses.dataclass
class Evaluation:
    """One split under one set of parameters."""

    results: dict  # numbers alone, as in results.json under "test"
    texts: np.ndarray  # float32 [captions, d]
    videos: Any  # as `Evaluator.embed_videos` gives them
    scores: dict[str, np.ndarray]  # direction, such as "t2v" → float32 [captions, clips of the complete gallery]
    info: SplitInfo
    gates: dict[str, dict[str, np.ndarray]] = dataclasses.field(default_factory=dict)  # of methods that have gates
    tokens: Any = None  # of methods that fuse modalities: each modality's, before they meet
    examples: Any = None  # of methods that reconstruct: reconstructions of a few clips


class Evaluator(Protocol):
    """Compiles its encoders once. Its methods can then be called with any parameters."""

    data: Data
    config: ConfigDict
    mesh: Mesh
    video_inputs: tuple[str, ...]  # all that `embed_videos` reads of a batch

    def embed_videos(
        self, params: dict, split: str, numbers: Sequence[int] | np.ndarray | None = None, change: Change | None = None
    ) -> Any:
        """What the score needs of a split's clips: a tree of NumPy arrays [clips, …], in the split's order.

        Args:
            numbers: of the clips to embed, in this order, instead of all.
            change: applied to each clip first.
        """
        ...

    def embed(self, params: dict, batches: Iterable[Batch]) -> Any:
        """As `embed_videos`, for batches that are read already; rows that pad are kept."""
        ...

    def embed_texts(self, params: dict, texts: list[str]) -> np.ndarray:
        """Query embeddings, float32 [texts, d]."""
        ...

    def run(self, params: dict, split: str) -> Evaluation:
        """Embeds a split and ranks its complete gallery in every direction of the method."""
        ...


@dataclasses.dataclass
class Trained:
    """An evaluator with the parameters of one step of a run."""

    workdir: str
    evaluator: Evaluator
    params: dict  # float32, on the evaluator's mesh
    step: int  # of the checkpoint they are from

    @property
    def config(self) -> ConfigDict:
        """Resolved and locked."""
        return self.evaluator.config

    @property
    def data(self) -> Data:
        """The splits that were opened."""
        return self.evaluator.data

    def evaluate(self, split: str | None = None) -> Evaluation:
        """Ranks a split, by default the run's test split; the numbers are in `.results`.

        Raises ValueError for a split that was not opened.
        """
        split = split or self.config.data.test_split
        if split not in self.data.sources:
            raise ValueError(
                f"split {split!r} is not open, only {', '.join(self.data.sources)}; open the run with split={split!r}"
            )
        return self.evaluator.run(self.params, split)


def bank_split(data: Data, config: ConfigDict) -> str | None:
    """The split whose captions querybank normalisation may use; None if only the test split is open."""
    val_split = config.data.val_split
    return val_split if val_split in data.sources and val_split != config.data.test_split else None


def in_batches(encode: Callable[[jax.Array], jax.Array], ids: np.ndarray, size: int, mesh: Mesh) -> np.ndarray:
    """Rows of `encode`, in every process, for token ids [n, w], `size` at a time. The last batch is padded."""
    padded = np.concatenate([ids, np.repeat(ids[:1], -len(ids) % size, axis=0)])
    mine = sharding.rows_of_process(size)
    parts = [
        jax.device_get(encode(sharding.to_devices({"ids": padded[at : at + size][mine]}, mesh)["ids"]))
        for at in range(0, len(padded), size)
    ]
    return np.concatenate(parts)[: len(ids)]
