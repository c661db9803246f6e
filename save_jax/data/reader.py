"""Numbers of clips or pairs → one batch, from records and from stored outputs of towers. NumPy only."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from save_jax.data.records import Clip, ShardSource
from save_jax.data.stored import Stored
from save_jax.data.transforms import ClipToArrays, ClipToVlsa

Batch = dict[str, np.ndarray]
PER_PAIR = ("text_ids", "text", "clip")  # arrays of a batch with a row for each pair; the others have one for each clip


@dataclasses.dataclass(frozen=True)
class Reader:
    """Reads one split. It pickles, for loader processes."""

    source: ShardSource
    to_arrays: ClipToArrays | ClipToVlsa
    stored: Stored | None  # None: everything is read live
    split: str

    def clips(self, numbers: Sequence[int] | np.ndarray, change: Callable[[Clip, int], Clip] | None = None) -> Batch:
        """What the model reads of these clips. `change` is applied to each clip, given its number, first."""
        return self._read(numbers, [None] * len(numbers), change)

    @property
    def count(self) -> int:
        """Items of an epoch: captions, each with its clip, or clips."""
        return count_items(self.source, self.to_arrays.items)

    def items(self, numbers: np.ndarray) -> Batch:
        """A training batch of these items: int [b], or int [b, 2] with the draw of each."""
        numbers, draws = (numbers[:, 0], numbers[:, 1]) if numbers.ndim == 2 else (numbers, None)
        if self.to_arrays.items == "clips":
            clips = numbers.astype(np.int32)
            return self._read(clips, [None] * len(clips), draws=draws) | {"clip": clips}
        return self.pairs(numbers, draws)

    def pairs(self, numbers: np.ndarray, draws: np.ndarray | None = None) -> Batch:
        """Clips, queries (`text` or `text_ids`) and clip numbers (`clip`, int32) of these pairs (see `clips_of`)."""
        clips, counts = clips_of(self.source, numbers), self.source.caption_counts
        captions = numbers - (np.cumsum(counts) - counts)[clips]
        batch = self._read(clips, captions, draws=draws)
        if self.stored:
            batch |= self.stored.read(self.split, "captions", numbers)
        return batch | {"clip": clips.astype(np.int32)}

    def all_queries(self) -> Batch:
        """`text` or `text_ids` of every pair of the split."""
        if self.stored and "text" in self._fields:
            return self.stored.read(self.split, "captions", range(self.source.caption_counts.sum()))
        clips = (self.source[number] for number in range(len(self.source)))
        return {"text_ids": np.stack([self.to_arrays.text(text) for clip in clips for text in clip.captions])}

    @property
    def _fields(self) -> tuple[str, ...]:
        return self.stored.fields(self.split) if self.stored else ()

    def _read(
        self,
        numbers: Sequence[int] | np.ndarray,
        captions: Sequence[int | None] | np.ndarray,
        change: Callable[[Clip, int], Clip] | None = None,
        draws: np.ndarray | None = None,
    ) -> Batch:
        """Reads clips one after the other and decodes frames in place, so that memory holds them once."""
        batch = self.stored.read(self.split, "clips", numbers) if self.stored else {}
        side = self.to_arrays.image_size
        frames: Sequence[np.ndarray | None] | np.ndarray = [None] * len(numbers)
        if self.to_arrays.reads_frames and "visual" not in self._fields:
            frames = np.zeros((len(numbers), self.to_arrays.max_frames, side, side, 3), np.uint8)
            batch["frames"] = frames
        examples = []
        drawn = [{}] * len(numbers) if draws is None else [{"draw": int(draw)} for draw in draws]
        for number, caption, row, draw in zip(numbers, captions, frames, drawn, strict=True):
            clip = self.source[number]
            example = self.to_arrays(clip if change is None else change(clip, int(number)), row, self._fields, **draw)
            if caption is not None and "text" not in self._fields:
                example["text_ids"] = self.to_arrays.text(clip.captions[caption])
            examples.append(example)
        return batch | {name: np.stack([e[name] for e in examples]) for name in examples[0].keys() - {"frames"}}


def count_items(source: ShardSource, items: str) -> int:
    """How many items, "clips" or "captions", an epoch has."""
    return len(source) if items == "clips" else int(source.caption_counts.sum())


def clips_of(source: ShardSource, pairs: np.ndarray) -> np.ndarray:
    """The clip of each pair, int [pairs]: the pairs of a split are its captions, counted in shard order."""
    return np.searchsorted(np.cumsum(source.caption_counts), pairs, side="right")
