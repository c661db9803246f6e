"""From shards to numpy batches: `train_iterator` for training pairs, `eval_batches` for whole splits.

Reading by index gives a true global shuffle and an exact resume: the input position is the number of the next batch.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grain
import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from save_jax.data import records
from save_jax.data.records import Clip, ShardError, ShardSource
from save_jax.data.tokenizer import Tokenizer
from save_jax.data.transforms import ClipToArrays, PairToArrays

Batch = dict[str, np.ndarray]


class Pairs:
    """Every (clip number, caption number) of a split, in shard order: a grain source. Nothing is read for it."""

    def __init__(self, source: ShardSource):
        counts = source.caption_counts
        self._clip = np.repeat(np.arange(len(source)), counts)
        self._caption = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)

    def __len__(self) -> int:
        return len(self._clip)

    def __getitem__(self, number: int) -> tuple[int, int]:
        return int(self._clip[number]), int(self._caption[number])


class Data:
    """The shards of a config: opened, verified and checked against the model before anything is compiled."""

    def __init__(self, config: ConfigDict, splits: tuple[str, ...]):
        """Raises ShardError or ValueError that says what does not fit and what to do."""
        directory = config.data_dir
        paths = {split: records.split_shards(directory, split) for split in splits}
        for path in tqdm(
            [p for shards in paths.values() for p in shards], "verify shards", unit="shard", leave=False, disable=None
        ):
            records.verify_shard(path)
        self.sources = {split: ShardSource(shards) for split, shards in paths.items()}
        self.manifest = _read_manifest(directory, [path for shards in paths.values() for path in shards])
        self.tokenizer = Tokenizer(
            os.path.join(directory, "tokenizer") if config.data.tokenizer == "data" else config.data.tokenizer
        )
        for split, source in self.sources.items():
            stored = source.settings
            if stored["image_size"] != config.model.image_size:
                raise ValueError(
                    f"{directory}: split {split} holds {stored['image_size']}-pixel frames, the model reads "
                    f"{config.model.image_size} (config.model.image_size); rebuild with --image-size or change it"
                )
            if stored["max_frames"] < config.data.max_frames:
                raise ValueError(
                    f"{directory}: split {split} holds up to {stored['max_frames']} frames a clip, the config wants "
                    f"{config.data.max_frames} (config.data.max_frames); rebuild with --max-frames or lower it"
                )
        if self.tokenizer.vocab_size > config.model.vocab_size:
            raise ValueError(
                f"the tokenizer has {self.tokenizer.vocab_size} tokens, the model's table {config.model.vocab_size} "
                "(config.model.vocab_size)"
            )
        self.clip_to_arrays = ClipToArrays(
            self.tokenizer,
            tuple(config.model.branches.split(",")),
            config.data.max_words,
            config.data.max_frames,
            config.model.image_size,
            raw=next(iter(self.sources.values())).settings["frames"] == "raw",
        )

    def has_teachers(self, split: str) -> bool:
        """Whether any clip of a split has teacher vectors."""
        return bool(self.manifest["counts"][split]["with_teacher"])


def _read_manifest(directory: str, paths: list[str]) -> dict:
    """The manifest that preparation wrote, if it tells of these very shards; else ShardError."""
    try:
        with open(os.path.join(directory, records.MANIFEST)) as file:
            manifest = json.load(file)
    except (OSError, ValueError) as error:
        raise ShardError(
            f"{directory}: no readable {records.MANIFEST} ({error}); run data_prep.build to its end"
        ) from error
    for path in paths:
        told = manifest["shards"].get(os.path.basename(path), {}).get("crc32c")
        if told != (found := records.read_index(path)["crc32c"]):
            raise ShardError(f"{path} has checksum {found}, {records.MANIFEST} says {told}; run data_prep.build again")
    return manifest


def _into_batch(config: ConfigDict, arrays: Callable[[Any, np.ndarray], Batch]) -> Callable[[Sequence], Batch]:
    """A batch of what `arrays(item, row)` gives, where `row` is the item's place among the batch's frames.

    Clips are read one after the other and their frames decoded in place, so that they are never held twice.
    """
    side = config.model.image_size

    def batch(items: Sequence) -> Batch:
        frames = np.zeros((len(items), config.data.max_frames, side, side, 3), np.uint8)
        examples = [arrays(item, row) for item, row in zip(items, frames, strict=True)]
        others = {name: np.stack([example[name] for example in examples]) for name in examples[0].keys() - {"frames"}}
        return others | {"frames": frames}

    return batch


def train_iterator(
    data: Data, config: ConfigDict, split: str = "train", *, start: int = 0, process: int = 0, processes: int = 1
) -> Iterator[Batch]:
    """Endless batches of training pairs in a seeded order, reshuffled every epoch.

    Args:
        start: number of the first batch to give; the same number gives the same batches, whatever was run before.
        process, processes: which part of each batch is read here (samples process, process + processes, …).
    """
    source = data.sources[split]
    pairs, to_arrays = Pairs(source), PairToArrays(data.clip_to_arrays)
    if len(pairs) < config.batch_size:
        raise ValueError(
            f"split {split} has {len(pairs)} pairs, less than one batch of {config.batch_size}; lower config.batch_size"
        )
    dataset = (
        grain.MapDataset.source(pairs)
        .seed(config.seed)
        .shuffle()
        .repeat()[process::processes]
        .batch(
            config.batch_size // processes,
            drop_remainder=True,
            batch_fn=_into_batch(config, lambda pair, row: to_arrays((source[pair[0]], pair[1], pair[0]), row)),
        )
    )
    options = grain.ReadOptions(num_threads=config.data.threads, prefetch_buffer_size=config.data.prefetch)
    iterator = iter(dataset.to_iter_dataset(options))
    iterator.set_state({"next_index": start})
    return iterator


def steps_per_epoch(data: Data, config: ConfigDict, split: str = "train") -> int:
    """Whole batches in one pass over all pairs."""
    return int(data.sources[split].caption_counts.sum()) // config.batch_size


def eval_batches(
    data: Data,
    config: ConfigDict,
    split: str,
    numbers: Sequence[int] | None = None,
    change: Callable[[Clip, int], Clip] | None = None,
) -> Iterator[Batch]:
    """Clips of a split, every one once and in order; the last batch is padded to full size with its first clip.

    The caller knows the number of clips and cuts the padding off.

    Args:
        numbers: of the clips to give, in this order, instead of all.
        change: what is done to a clip (given its number) before it becomes arrays, for evaluation of other inputs.
    """
    source, size = data.sources[split], config.batch_size
    numbers = np.arange(len(source)) if numbers is None else np.asarray(numbers)
    padded = np.concatenate([numbers, np.repeat(numbers[:1], -len(numbers) % size)])

    def arrays(number: int, row: np.ndarray) -> Batch:
        clip = source[number]
        return data.clip_to_arrays(clip if change is None else change(clip, int(number)), row)

    dataset = grain.MapDataset.source(padded).batch(size, batch_fn=_into_batch(config, arrays))
    return iter(
        dataset.to_iter_dataset(
            grain.ReadOptions(num_threads=config.data.threads, prefetch_buffer_size=config.data.prefetch)
        )
    )
