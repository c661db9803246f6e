"""`bench input`: what the loader gives of made shards, for numbers of threads and workers, beside what a step takes."""

import argparse
import os
import tempfile
import time
from collections.abc import Iterator

import numpy as np
import simplejpeg
from ml_collections import ConfigDict

from save_jax import config as config_lib
from save_jax.bench import timing
from save_jax.bench.step import settings_of
from save_jax.data import pipeline, records, tokenizer
from save_jax.data.files import write_json

WORDS = ["a", "man", "dog", "car", "sings", "drums", "about", "bread", "in", "the", "snow", "red", "left", "plays"]


def made_clips(count: int, captions: int, size: int, frames: int) -> Iterator[records.Clip]:
    """Clips with smooth random pictures, whose JPEGs are about as large as real ones; sixteen kinds, repeated."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (16, frames, 14, 14, 3)).astype(np.float32)
    steps = np.linspace(0, 13, size)
    low = np.minimum(steps.astype(int), 12)
    part = (steps - low)[:, None]

    def smooth(picture: np.ndarray) -> np.ndarray:
        """Bilinear, and some noise as of a camera."""
        rows = picture[low] * (1 - part[..., None]) + picture[low + 1] * part[..., None]
        both = rows[:, low] * (1 - part[None]) + rows[:, low + 1] * part[None]
        return np.clip(both + rng.normal(0, 6, both.shape), 0, 255).astype(np.uint8)

    pictures = [[simplejpeg.encode_jpeg(smooth(picture), 90) for picture in clip] for clip in coarse]
    fbank = rng.standard_normal(records.FBANK_SHAPE).astype(np.float16)
    teacher = rng.standard_normal(records.TEACHER_DIM).astype(np.float32)
    for number in range(count):
        yield records.Clip(
            id=f"clip{number}",
            captions=[" ".join(rng.choice(WORDS, 8)) for _ in range(captions)],
            groups=[""] * captions,
            frames=pictures[number % len(pictures)],
            frame_times=np.arange(frames, dtype=np.float32),
            fbank=fbank,
            transcript=" ".join(rng.choice(WORDS, 20)),
            tags=[],
            teacher_video=teacher,
            teacher_audio=teacher,
        )


def make_shards(directory: str, args: argparse.Namespace, config: ConfigDict) -> int:
    """A corpus of one split in two shards, with tokenizer and manifest; its bytes."""
    size, frames = config.model.image_size, config.data.max_frames
    settings = {"corpus": "made", "image_size": size, "max_frames": frames, "frames": "jpeg"}
    clips, shards = made_clips(args.clips, args.captions, size, frames), {}
    for number in range(2):
        name, count = records.shard_name("train", number, 2), args.clips // 2 + number * (args.clips % 2)
        some = (next(clips) for _ in range(count))
        index = records.write_shard(os.path.join(directory, name), some, settings)
        shards[name] = {"bytes": index["bytes"], "crc32c": index["crc32c"]}
    manifest = {"schema": records.SCHEMA_VERSION, "corpus": "made", "settings": settings, "shards": shards}
    write_json(
        os.path.join(directory, records.MANIFEST), manifest | {"counts": {"train": {"with_teacher": args.clips}}}
    )
    tokenizer.learn([" ".join(WORDS)] * 3, os.path.join(directory, "tokenizer"), 600)
    return sum(shard["bytes"] for shard in shards.values())


def read(args: argparse.Namespace) -> dict:
    """Clips a second for every number of threads and workers, and the share of a loop's time that is waited."""
    config = config_lib.base()
    config.batch_size, config.data.tokenizer = args.batch, "data"
    config.data.max_frames, config.model.image_size = args.frames, args.image_size
    machine, rows = timing.machine(), []
    print(timing.describe(machine))
    with tempfile.TemporaryDirectory() as directory:
        size = make_shards(directory, args, config)
        print(
            f"{args.clips} made clips, {args.frames} JPEG frames of {args.image_size} pixels, "
            f"{size / args.clips / 1e6:.2f} MB a clip; "
            f"batches of {args.batch}; clips a second, median (smallest–largest) of {args.rounds} rounds"
        )
        print(f"{'threads':>8}{'workers':>8}{'clips/s':>26}" + (f"{'waited':>9}" if args.step_ms else ""))
        for workers in args.workers:
            for threads in args.threads if workers == 0 else args.threads[-1:]:
                row = {"threads": threads, "workers": workers, **read_row(config, directory, threads, workers, args)}
                shown = f"{row['median']:.0f} ({row['min']:.0f}–{row['max']:.0f})"
                waited = f"{row['waited']:>9.0%}" if args.step_ms else ""
                print(f"{threads:>8}{workers:>8}{shown:>26}{waited}", flush=True)
                rows.append(row)
    if args.step_ms:
        print(
            f"waited: of a loop whose step takes {args.step_ms:g} ms and leaves the processor to the loader, as on an "
            "accelerator"
        )
    return {"bench": "input", "machine": machine, "settings": settings_of(args), "bytes": size, "rows": rows}


def read_row(config: ConfigDict, directory: str, threads: int, workers: int, args: argparse.Namespace) -> dict:
    """Rounds of `args.batches` batches from one iterator, after those that it had made ahead."""
    config = config.copy_and_resolve_references()
    config.data_dir, config.data.threads, config.data.workers = directory, threads, workers
    config.data.prefetch = max(threads, 2)
    config = config_lib.resolve(config)
    batches = pipeline.train_iterator(pipeline.Data(config, ("train",)), config)
    try:
        rates, waited = [], []
        # Queues of processes hold fewer than three times what was asked for ahead, one at least of each process.
        ahead = 3 * max(config.data.prefetch, workers) if workers else config.data.prefetch
        for _ in range(1 + ahead):
            next(batches)
        for _ in range(args.rounds):
            begin = time.perf_counter()
            for _ in range(args.batches):
                next(batches)
            rates.append(args.batch * args.batches / (time.perf_counter() - begin))
        for _ in range(args.rounds if args.step_ms else 0):
            begin, waiting = time.perf_counter(), 0.0
            for _ in range(args.batches):
                time.sleep(args.step_ms / 1e3)  # in which the loader works ahead
                asked = time.perf_counter()
                next(batches)
                waiting += time.perf_counter() - asked
            waited.append(waiting / (time.perf_counter() - begin))
    finally:
        batches.close()  # pyright: ignore[reportAttributeAccessIssue]  # grain's and ours both have it
    figures = {"median": float(np.median(rates)), "min": min(rates), "max": max(rates)}
    return figures | ({"waited": float(np.median(waited))} if waited else {})
