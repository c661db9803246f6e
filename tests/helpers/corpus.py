"""A small made corpus: clips that depend on their number and split alone, as shards."""

import json
import zlib
from pathlib import Path

import numpy as np
import simplejpeg

from save_jax.data import records, tokenizer

IMAGE_SIZE = 32
SETTINGS = {"corpus": "made", "image_size": IMAGE_SIZE, "max_frames": 12, "frames": "jpeg"}
WORDS = ["red", "blue", "green", "car", "bird", "drum", "beach", "left", "rings", "sings", "talks", "about", "bread"]


def make_clip(number: int, split: str, captions: int = 2, **changes: object) -> records.Clip:
    """A clip that depends on its number and split alone; every third has no sound, every fourth no transcript."""
    rng = np.random.default_rng([number, zlib.crc32(split.encode())])
    count = int(rng.integers(1, 4))
    texts = [" ".join(rng.choice(WORDS, 5)) for _ in range(captions)]
    frames = rng.integers(0, 255, (count, 1, 1, 3), np.uint8).repeat(IMAGE_SIZE, 1).repeat(IMAGE_SIZE, 2)
    sound = number % 3 != 0
    clip = records.Clip(
        id=f"{split}{number}",
        captions=texts,
        groups=[("vision", "sound", "speech")[number % 3]] * captions,
        frames=[simplejpeg.encode_jpeg(np.ascontiguousarray(frame), 95) for frame in frames],
        frame_times=np.arange(count, dtype=np.float32),
        fbank=rng.normal(size=records.FBANK_SHAPE).astype(np.float16) if sound else None,
        transcript="" if number % 4 == 0 else " ".join(rng.choice(WORDS, 6)),
        tags=["related" if sound else "no-track"],
        teacher_video=rng.normal(size=records.TEACHER_DIM).astype(np.float32),
        teacher_audio=rng.normal(size=records.TEACHER_DIM).astype(np.float32) if sound else None,
    )
    for name, value in changes.items():
        setattr(clip, name, value)
    return clip


def _spectrogram(number: int) -> dict[str, np.ndarray | None]:
    rng = np.random.default_rng(number)
    values = rng.uniform(-1, 1, records.SPECTROGRAM_SHAPE).astype(np.float16)
    return {"spectrogram": values if number % 3 else None}


def write_corpus(directory: Path, sizes: dict[str, int], settings: dict | None = None, clips: int = 0) -> Path:
    """Shards, tokenizer and manifest of a made corpus, whose clips are numbered from `clips` on."""
    settings = settings or SETTINGS
    directory.mkdir(parents=True, exist_ok=True)
    shards = {}
    for split, size in sizes.items():
        halves = np.array_split(np.arange(clips, clips + size), 2)
        for k, numbers in enumerate(halves):
            name = records.shard_name(split, k, len(halves))
            more = _spectrogram if settings.get("spectrogram") else lambda number: {}
            made = (make_clip(int(n), split, 1 if split == "test" else 2, **more(n)) for n in numbers)
            index = records.write_shard(str(directory / name), made, settings)
            shards[name] = {"bytes": index["bytes"], "crc32c": index["crc32c"]}
    counts = {split: {"with_teacher": 1} for split in sizes}
    manifest = {"schema": records.SCHEMA_VERSION, "corpus": "made", "settings": settings}
    manifest |= {"shards": shards, "counts": counts}
    (directory / records.MANIFEST).write_text(json.dumps(manifest))
    tokenizer.learn([" ".join(WORDS)] * 3, str(directory / "tokenizer"), 600)
    return directory
