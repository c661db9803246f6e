"""A golden file's inputs as clips of a corpus, read as training and evaluation read them.

Golden files hold what the model reads: normalised pixels, padding included, and ids of words. Here the same inputs are
stored as records store them: uint8 pictures of the real frames alone, sound only where there is some, and texts. Then
the `Reader` of training makes a batch. So everything between a record and the model is compared with the authors'
numbers, too: normalisation, padding, missing sound, missing speech, cutting and ending of texts.
"""

import dataclasses
import json
import os
import tempfile
from collections.abc import Iterable, Sequence

import jax.numpy as jnp
import numpy as np

from save_jax.data.reader import Reader
from save_jax.data.records import Clip, ShardSource
from save_jax.data.tokenizer import END, START, Tokenizer
from save_jax.data.transforms import ClipToArrays
from save_jax.parity.fixtures import Twin

_LETTERS = "bcdfghjklmnpqrstvwxz"
_STEPS = tuple(2.0**-power for power in range(7, -1, -1))  # between neighbouring pixel values


class _Clips(ShardSource):
    """Clips that lie in memory instead of shards."""

    def __init__(self, clips: Sequence[Clip]):
        self._clips = list(clips)
        self.ids = [clip.id for clip in clips]
        self.caption_counts = np.array([len(clip.captions) for clip in clips])

    def __getitem__(self, number: int) -> Clip:
        return self._clips[number]


def twin_of_records(twin: Twin) -> Twin:
    """The same model and inputs, but the batch comes from uint8 pictures, sounds and texts through the input path.

    Raises ValueError for a file whose pixels or words cannot be stored so.
    """
    inputs = twin.inputs
    pixels, mask = inputs["video"].transpose(0, 1, 3, 4, 2), inputs["video_mask"].astype(bool)
    step, lowest = _grid(pixels)
    pictures = np.round((pixels - lowest) / step).astype(np.uint8)
    texts = [inputs[name] for name in ("text_ids", "asr_ids", "eval_text_ids") if name in inputs]
    with tempfile.TemporaryDirectory() as folder:
        words = _write_tokenizer(folder, texts)
        tokenizer = Tokenizer(folder)

    def text(ids: np.ndarray) -> str:
        return " ".join(words[id] for id in ids[1 : max(np.argmax(ids), 1)] if ids.any())

    clips = [
        Clip(
            id=f"golden{n}",
            captions=[text(inputs["text_ids"][n])],
            groups=[""],
            frames=[picture.tobytes() for picture in pictures[n, mask[n]]],
            frame_times=np.arange(mask[n].sum(), dtype=np.float32),
            fbank=inputs["fbank"][n].astype(np.float16) if inputs["audio_mask"][n] else None,
            transcript=text(inputs["asr_ids"][n]) if "asr_ids" in inputs else "",
            tags=[],
            teacher_video=inputs["teacher_video"][n] if "teacher_video" in inputs else None,
            teacher_audio=inputs["teacher_audio"][n] if "teacher_audio" in inputs else None,
        )
        for n in range(len(pixels))
    ]
    sizes = twin.model.sizes
    to_arrays = ClipToArrays(
        tokenizer,
        sizes.branches,
        max_words=inputs["text_ids"].shape[1],
        max_frames=mask.shape[1],
        image_size=pixels.shape[2],
        raw=True,
        fbank_shape=inputs["fbank"].shape[1:],
    )
    batch = Reader(_Clips(clips), to_arrays, None, "golden").items(np.arange(len(clips)))
    if "eval_text_ids" in inputs:
        read = np.stack([to_arrays.text(text(ids)) for ids in inputs["eval_text_ids"]])
        inputs = inputs | {"eval_text_ids": read}
    # Value k of 0 … 255 is normalised to lowest + k · step.
    of_pixels = {"pixel_mean": (-lowest / step / 255,) * 3, "pixel_std": (1 / step / 255,) * 3}
    model = twin.model.clone(sizes=dataclasses.replace(sizes, **of_pixels))
    return dataclasses.replace(twin, model=model, batch={k: jnp.asarray(x) for k, x in batch.items()}, inputs=inputs)


def _grid(pixels: np.ndarray) -> tuple[float, float]:
    """(step, lowest value) of the grid of 256 values that all pixels lie on."""
    lowest = float(pixels.min())
    for step in reversed(_STEPS):
        numbers = (pixels - lowest) / step
        if (numbers == np.round(numbers)).all() and numbers.max() < 256:
            return step, lowest
    raise ValueError("pixels lie on no grid of 256 values, so that they cannot be uint8")


def _write_tokenizer(folder: str, texts: Iterable[np.ndarray]) -> dict[int, str]:
    """A vocabulary in which every id of the texts is one word. Returns the words by id."""
    used = sorted({int(id) for ids in texts for id in ids.ravel()} - {0})
    start, end = used[-2:]
    words = {id: f"{a}{b}q" for id, (a, b) in zip(used[:-2], _pairs(), strict=False)}
    # Parts of words need ids, too: those that no text has.
    parts = [*_LETTERS, "q</w>", *dict.fromkeys(f"{word[1]}q</w>" for word in words.values())]
    free = [id for id in range(end) if id not in words and id != start]
    if end != start + 1 or len(parts) > len(free) or len(words) < len(used) - 2:
        raise ValueError(f"{len(used)} ids up to {end} cannot be written as words")
    vocab = {f"{word}</w>": id for id, word in words.items()} | {START: start, END: end}
    vocab |= {part: free.pop() for part in parts} | {f"unused{id}": id for id in free}
    merges = [f"{part[0]} q</w>" for part in parts if len(part) == len("xq</w>")]
    merges += [f"{word[0]} {word[1:]}</w>" for word in words.values()]
    with open(os.path.join(folder, "vocab.json"), "w") as file:
        json.dump(dict(sorted(vocab.items(), key=lambda item: item[1])), file)
    with open(os.path.join(folder, "merges.txt"), "w") as file:
        file.write("\n".join(["#version: 0.2", *merges]) + "\n")
    return words


def _pairs() -> Iterable[str]:
    return (a + b for a in _LETTERS for b in _LETTERS)
