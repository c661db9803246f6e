"""From shards to numpy batches: `train_iterator` for training pairs, `eval_batches` for whole splits.

Reading by index gives a true global shuffle and an exact resume: the input position is the number of the next batch.
Threads of this process, or with `config.data.workers` other processes, make whole batches. The batches are the same.
"""

import collections
import copy
import functools
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Protocol, TypeVar

import grain
import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from save_jax.config import branches
from save_jax.config.vlsa import modalities
from save_jax.data import files, records, split_info, workers
from save_jax.data.reader import PER_PAIR, Batch, Reader, clips_of
from save_jax.data.records import Clip, ShardError, ShardSource
from save_jax.data.split_info import SplitInfo
from save_jax.data.stored import Stored
from save_jax.data.tokenizer import Tokenizer, open_words
from save_jax.data.transforms import ClipToArrays, ClipToVlsa

T = TypeVar("T")


class Batches(Protocol):
    """An iterator of batches. Closing it ends its threads or processes."""

    def __iter__(self) -> Iterator[Batch]: ...

    def __next__(self) -> Batch: ...

    def close(self) -> None: ...


def _retrieval_arrays(config: ConfigDict, raw: bool) -> ClipToArrays:
    data = config.data
    return ClipToArrays(
        Tokenizer(tokenizer_source(config)),
        branches(config),
        data.max_words,
        data.max_frames,
        config.model.image_size,
        raw,
    )


def _vlsa_arrays(config: ConfigDict, raw: bool) -> ClipToVlsa:
    data = config.data
    return ClipToVlsa(
        open_words(tokenizer_source(config)),
        ITEMS[config.task],
        data.max_words,
        data.max_frames,
        config.model.image_size,
        raw,
        modalities(config),
    )


def tokenizer_source(config: ConfigDict) -> str:
    """Folder or hub name of a config's tokenizer."""
    return os.path.join(config.data_dir, "tokenizer") if config.data.tokenizer == "data" else config.data.tokenizer


# By config.task: what a clip becomes; and the items of an epoch: clips, or captions with their clips.
TRANSFORMS = {"retrieval": _retrieval_arrays, "vlsa-pretrain": _vlsa_arrays, "vlsa-finetune": _vlsa_arrays}
ITEMS = {"retrieval": "captions", "vlsa-pretrain": "clips", "vlsa-finetune": "captions"}


class Data:
    """The shards of a config: opened, verified and checked against the model before anything is compiled.

    `stored`: outputs of frozen towers, which batches hold instead of the towers' inputs. None: all is read live.
    """

    def __init__(self, config: ConfigDict, splits: tuple[str, ...]):
        """Raises ShardError or ValueError that says what does not fit and what to do."""
        self.directory = directory = config.data_dir
        paths = {split: records.split_shards(directory, split) for split in splits}
        for path in tqdm(
            [p for shards in paths.values() for p in shards], "verify shards", unit="shard", leave=False, disable=None
        ):
            records.verify_shard(path)
        self.sources = {split: ShardSource(shards) for split, shards in paths.items()}
        self.stored: Stored | None = None
        self._info: dict[str, SplitInfo] = {}
        self.manifest = _read_manifest(directory, [path for shards in paths.values() for path in shards])
        raw = next(iter(self.sources.values())).settings["frames"] == "raw"
        self.clip_to_arrays = TRANSFORMS[config.task](config, raw)
        self.tokenizer = self.clip_to_arrays.tokenizer
        for split, source in self.sources.items():
            stored = source.settings
            reads = self.clip_to_arrays
            if reads.reads_frames and stored["image_size"] != config.model.image_size:
                raise ValueError(
                    f"{directory}: split {split} holds {stored['image_size']}-pixel frames, the model reads "
                    f"{config.model.image_size} (config.model.image_size); rebuild with --image-size or change it"
                )
            if reads.reads_frames and stored["max_frames"] < config.data.max_frames:
                raise ValueError(
                    f"{directory}: split {split} holds up to {stored['max_frames']} frames a clip, the config wants "
                    f"{config.data.max_frames} (config.data.max_frames); rebuild with --max-frames or lower it"
                )
            hears = isinstance(reads, ClipToVlsa) and "audio" in reads.modalities
            if hears and not stored.get("spectrogram"):
                raise ValueError(
                    f"{directory}: split {split} holds no spectrograms, which VLSA hears; rebuild with --spectrogram "
                    "into another --out"
                )
        if self.tokenizer.vocab_size > config.model.vocab_size:
            raise ValueError(
                f"the tokenizer has {self.tokenizer.vocab_size} tokens, the model's table {config.model.vocab_size} "
                "(config.model.vocab_size)"
            )

    def with_stored(self, stored: Stored | None) -> "Data":
        """The same shards, with stored outputs of towers."""
        other = copy.copy(self)
        other.stored = stored
        return other

    def info(self, split: str) -> SplitInfo:
        """Texts and counts of a split, read once."""
        if split not in self._info:
            self._info[split] = split_info.read(self.sources[split])
        return self._info[split]

    def reader(self, split: str, live: bool = False) -> Reader:
        """Makes batches of a split. `live`: without stored outputs."""
        return Reader(self.sources[split], self.clip_to_arrays, None if live else self.stored, split)

    def has_teachers(self, split: str) -> bool:
        """Whether any clip of a split has teacher vectors."""
        return bool(self.manifest["counts"][split]["with_teacher"])


def _read_manifest(directory: str, paths: list[str]) -> dict:
    """The manifest that preparation wrote. Raises ShardError if it is not of these shards."""
    try:
        manifest = files.read_json(os.path.join(directory, records.MANIFEST))
    except (OSError, ValueError) as error:
        raise ShardError(
            f"{directory}: no readable {records.MANIFEST} ({error}); run data_prep.build to its end"
        ) from error
    for path in paths:
        told = manifest["shards"].get(os.path.basename(path), {}).get("crc32c")
        if told != (actual := records.read_index(path)["crc32c"]):
            raise ShardError(f"{path} has checksum {actual}, {records.MANIFEST} says {told}; run data_prep.build again")
    return manifest


def _rows(config: ConfigDict, process: int, processes: int) -> slice:
    """The rows of each batch that a process reads."""
    size = config.batch_size
    if size % processes:
        raise ValueError(f"batch_size {size} is not divisible by {processes} processes (config.batch_size)")
    return slice(process * size // processes, (process + 1) * size // processes)


def _threads(config: ConfigDict) -> grain.ReadOptions:
    return grain.ReadOptions(num_threads=config.data.threads, prefetch_buffer_size=config.data.prefetch)


def _shuffled(
    data: Data, config: ConfigDict, split: str, start: int, rows: slice, batch: Callable[[np.ndarray], Batch]
) -> grain.MapDataset:
    """Endless batches from number `start` on. `batch` makes each from the numbers (and draws) of its items."""
    reader = data.reader(split)
    steps_per_epoch(data, config, split)  # or there would never be a batch
    # Numbers are batched for all processes, and cut to the rows of this one before anything is read.
    order = grain.MapDataset.source(range(reader.count)).seed(config.seed).shuffle().repeat()
    if reader.to_arrays.draws:
        order = order.random_map(_draw)
    make = functools.partial(_make, batch, rows)
    return order.batch(config.batch_size, drop_remainder=True, batch_fn=make)[start:]


def _draw(number: int, rng: np.random.Generator) -> tuple[int, int]:
    return number, int(rng.integers(2**31))


def _make(batch: Callable[[np.ndarray], Batch], rows: slice, numbers: Sequence[int]) -> Batch:
    return batch(np.array(numbers[rows]))


def train_iterator(
    data: Data, config: ConfigDict, split: str = "train", *, start: int = 0, process: int = 0, processes: int = 1
) -> Batches:
    """Endless training batches in a seeded order, reshuffled every epoch. Close it when done.

    Args:
        start: number of the first batch. The same number gives the same batches, whatever was run before.
        process, processes: this process gets rows [process · B/processes, (process + 1) · B/processes) of each batch.
    """
    reader, rows = data.reader(split), _rows(config, process, processes)
    batches = _shuffled(data, config, split, start, rows, reader.items)
    if not config.data.workers:
        return batches.to_iter_dataset(_threads(config)).__iter__()  # `iter` would be declared without `close`
    example = reader.items(np.zeros((1, 2) if reader.to_arrays.draws else 1, int))
    size = sum(x.nbytes for x in example.values()) * (rows.stop - rows.start)
    return workers.iterate(batches, config.data.workers, config.data.prefetch, size)


def pair_iterator(
    data: Data, config: ConfigDict, split: str = "train", *, start: int = 0, process: int = 0, processes: int = 1
) -> Batches:
    """`pair` and `clip`, int32 [b], of the same batches as `train_iterator`, for tables that the devices hold."""
    source, rows = data.sources[split], _rows(config, process, processes)

    def batch(numbers: np.ndarray) -> Batch:
        return {"pair": numbers.astype(np.int32), "clip": clips_of(source, numbers).astype(np.int32)}

    return _shuffled(data, config, split, start, rows, batch).to_iter_dataset(_threads(config)).__iter__()


def prefetch(batches: Batches, put: Callable[[Batch], T], ahead: int = 2) -> Generator[T]:
    """Yields `put(batch)` of each batch, and keeps `ahead` more of them on their way: transfers overlap with steps.

    The caller closes `batches`.
    """
    waiting = collections.deque()
    for batch in batches:
        waiting.append(put(batch))
        if len(waiting) > ahead:
            yield waiting.popleft()
    yield from waiting


def steps_per_epoch(data: Data, config: ConfigDict, split: str = "train") -> int:
    """Whole batches in one pass over all items. Raises ValueError where there is none."""
    reader = data.reader(split)
    if reader.count < config.batch_size:
        raise ValueError(
            f"split {split} has {reader.count} {'pairs' if reader.to_arrays.items == 'captions' else 'clips'}, less "
            f"than one batch of {config.batch_size}; lower config.batch_size"
        )
    return reader.count // config.batch_size


def eval_batches(
    data: Data,
    config: ConfigDict,
    split: str,
    numbers: Sequence[int] | np.ndarray | None = None,
    change: Callable[[Clip, int], Clip] | None = None,
    *,
    process: int = 0,
    processes: int = 1,
) -> Iterator[Batch]:
    """All clips of a split, once and in order. The last batch is padded to full size with the first clip.

    The caller knows the number of clips and cuts the padding off. Whole splits are read from `data.stored`, if it is
    set. Chosen or changed clips are read live: they are compared bit for bit, and stored outputs are rounded.

    Args:
        numbers: of the clips to read, in this order, instead of all.
        change: changes a clip, given its number, before it becomes arrays. For evaluation of other inputs.
        process, processes: as in `train_iterator`.
    """
    source, size, rows = data.sources[split], config.batch_size, _rows(config, process, processes)
    reader = data.reader(split, live=numbers is not None or change is not None)
    order = np.arange(len(source)) if numbers is None else np.asarray(numbers)
    padded = np.concatenate([order, np.repeat(order[:1], -len(order) % size)])
    dataset = grain.MapDataset.source(padded).batch(size, batch_fn=lambda batch: reader.clips(batch[rows], change))
    return iter(dataset.to_iter_dataset(_threads(config)))


def table_shapes(data: Data, config: ConfigDict, split: str) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Name → (shape, dtype) of the `tables` of a split, but for `clip`."""
    source = data.sources[split]
    example, pairs = data.reader(split).pairs(np.zeros(1, int)), int(source.caption_counts.sum())
    lengths = {name: pairs if name in PER_PAIR else len(source) for name in example}
    return {name: ((lengths[name], *x.shape[1:]), x.dtype) for name, x in example.items() if name != "clip"}


def tables(data: Data, config: ConfigDict, split: str, lay_out: Callable[[tuple[int, ...]], tuple[int, ...]]) -> Batch:
    """A whole split, to gather batches from. Arrays in PER_PAIR have a row for each pair, others for each clip.

    `clip`, int32 [pairs], is the clip of each pair.

    Args:
        lay_out: from the shape of a table to the one that it is wanted in, in which rows may be longer.
    """
    source, arrays, done = data.sources[split], {}, 0
    with tqdm(total=len(source), desc=f"read {split}", unit="clip", leave=False, disable=None) as bar:
        for batch in eval_batches(data, config, split):
            here = min(config.batch_size, len(source) - done)
            for name, rows in batch.items():
                if name not in arrays:
                    arrays[name] = np.zeros(lay_out((len(source), *rows.shape[1:])), rows.dtype)
                flat = rows[:here].reshape(here, -1)
                arrays[name].reshape(len(source), -1)[done : done + here, : flat.shape[1]] = flat
            done += here
            bar.update(here)
    pairs = np.arange(source.caption_counts.sum())
    return arrays | data.reader(split).all_queries() | {"clip": clips_of(source, pairs).astype(np.int32)}
