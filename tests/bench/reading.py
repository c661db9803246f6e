"""How fast one core reads shards: this project's loader against tf.data, on the same shards, with equal arrays out.

    python tests/bench/reading.py [--clips 96] [--repeats 7] [--workers 0,2,4] [--json FILE]

In the environment of tests/interop/README.md. Clips have 12 frames of 224 pixels with the spectrum of web video, sound
and teacher vectors; transcripts are left out, for which TensorFlow has no tokenizer. TensorFlow is spared what ours
must be ready for: it is told that every clip has 12 frames, and unrolls them into its compiled graph. Both check
checksums. Rates are records per second of processor time on one core, which neighbours on the machine hardly change;
the last columns are by the clock. `--workers` adds what the training loader gives with so many processes (0: with its
threads), by the clock and on all cores, where neighbours do count.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

CORES = os.sched_getaffinity(0)
CORE = max(CORES)
os.sched_setaffinity(0, {CORE})  # before anything counts the cores
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np  # noqa: E402
import simplejpeg  # noqa: E402
import tensorflow as tf  # noqa: E402
from ml_collections import ConfigDict  # noqa: E402

from save_jax.config import base, resolve  # noqa: E402
from save_jax.data import pipeline, records, tokenizer  # noqa: E402

FRAMES, SIDE, BATCH, PER_SHARD = 12, 224, 16, 32
ARRAYS = {"fbank": (tf.float16, records.FBANK_SHAPE)}
ARRAYS |= {f"teacher_{kind}": (tf.float32, (records.TEACHER_DIM,)) for kind in ("video", "audio")}


def photograph(rng: np.random.Generator) -> np.ndarray:
    """uint8 [224, 224, 3]: amplitudes fall with frequency, faster than in photographs; channels are alike, mostly."""
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None]) ** 1.6
    frequency[0, 0] = 1
    noise = rng.normal(size=(4, *frequency.shape)) + 1j * rng.normal(size=(4, *frequency.shape))
    planes = np.fft.irfft2(noise / frequency, s=(SIDE, SIDE))
    planes = planes[:1] + 0.3 * planes[1:]
    return np.clip(128 + 50 * planes / planes.std(), 0, 255).astype(np.uint8).transpose(1, 2, 0)


def make_clip(number: int, raw: bool) -> records.Clip:
    rng = np.random.default_rng(number)
    pictures = [np.ascontiguousarray(photograph(rng)) for _ in range(FRAMES)]
    return records.Clip(
        id=f"video{number}",
        captions=[f"caption {k} of a clip that someone has described" for k in range(20)],
        groups=[""] * 20,
        frames=[p.tobytes() if raw else simplejpeg.encode_jpeg(p, 95, "RGB", "444") for p in pictures],
        frame_times=np.arange(FRAMES, dtype=np.float32),
        fbank=rng.normal(size=records.FBANK_SHAPE).astype(np.float16),
        transcript="",
        tags=[],
        teacher_video=rng.normal(size=records.TEACHER_DIM).astype(np.float32),
        teacher_audio=rng.normal(size=records.TEACHER_DIM).astype(np.float32),
    )


def write_shards(directory: Path, clips: int, frames: str) -> None:
    """A split of `clips` clips, as data_prep.build leaves it."""
    settings = {"corpus": "bench", "image_size": SIDE, "max_frames": FRAMES, "frames": frames}
    numbers = np.array_split(np.arange(clips), -(-clips // PER_SHARD))
    shards = {}
    for k, part in enumerate(numbers):
        name = records.shard_name("train", k, len(numbers))
        made = (make_clip(int(number), frames == "raw") for number in part)
        index = records.write_shard(str(directory / name), made, settings)
        shards[name] = {"bytes": index["bytes"], "crc32c": index["crc32c"]}
    manifest = {"schema": records.SCHEMA_VERSION, "corpus": "bench", "settings": settings, "shards": shards}
    (directory / records.MANIFEST).write_text(json.dumps(manifest | {"counts": {"train": {"with_teacher": clips}}}))
    tokenizer.learn(["caption of a clip that someone has described"] * 3, str(directory / "tokenizer"), 600)


def opened(directory: Path, workers: int = 0) -> tuple[pipeline.Data, ConfigDict]:
    """The shards with the settings that training and evaluation have."""
    config = base()
    config.data_dir, config.data.tokenizer, config.batch_size = str(directory), "data", BATCH
    config.model.branches, config.data.max_frames, config.data.workers = "vision,audio", FRAMES, workers
    config = resolve(config)
    return pipeline.Data(config, ("train",)), config


def ours(directory: Path) -> Callable[[], Iterator[dict]]:
    """The loader as evaluation uses it."""
    data, config = opened(directory)
    return lambda: pipeline.eval_batches(data, config, "train")


def by_workers(directory: Path, workers: int, clips: int) -> float:
    """Clips a second of the training loader by the clock, on all cores, over at least `clips` of them."""
    os.sched_setaffinity(0, CORES)
    data, config = opened(directory, workers)
    batches = pipeline.train_iterator(data, config)
    try:
        for _ in range(3 * config.data.prefetch):  # processes start; what was made ahead meanwhile is used up
            next(batches)
        began = time.perf_counter()
        for _ in range(-(-clips // BATCH)):
            next(batches)
        return clips / (time.perf_counter() - began)
    finally:
        batches.close()
        os.sched_setaffinity(0, {CORE})


def theirs(directory: Path, raw: bool) -> Callable[[], Iterator[dict]]:
    """tf.data as its guides advise, on one thread of each of its pools."""
    spec = {"frames": tf.io.FixedLenFeature([FRAMES], tf.string)}
    spec |= {name: tf.io.FixedLenFeature([], tf.string) for name in ARRAYS}
    spec |= {f"has_{name}": tf.io.FixedLenFeature([], tf.int64) for name in ARRAYS}

    def arrays(data: tf.Tensor) -> dict:
        parsed = tf.io.parse_single_example(data, spec)
        if raw:
            frames = tf.reshape(tf.io.decode_raw(parsed["frames"], tf.uint8), (FRAMES, SIDE, SIDE, 3))
        else:
            jpegs = tf.unstack(parsed["frames"])
            frames = tf.stack([tf.io.decode_jpeg(j, channels=3, dct_method="INTEGER_ACCURATE") for j in jpegs])
        out = {"frames": frames, "frame_mask": tf.ones([FRAMES], tf.bool)}
        out |= {name: tf.reshape(tf.io.decode_raw(parsed[name], dtype), s) for name, (dtype, s) in ARRAYS.items()}
        teacher = (parsed["has_teacher_video"] > 0) & (parsed["has_teacher_audio"] > 0)
        return out | {"has_audio": parsed["has_fbank"] > 0, "has_teacher": teacher}

    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    options.threading.max_intra_op_parallelism = 1
    paths = records.split_shards(str(directory), "train")
    dataset = tf.data.TFRecordDataset(paths).map(arrays).batch(BATCH).prefetch(2).with_options(options)
    return dataset.as_numpy_iterator  # pyright: ignore[reportReturnType] (of dictionaries, as `arrays` gives them)


def check_equal(one: Iterator[dict], other: Iterator[dict]) -> None:
    """Raises AssertionError where the two do not give the same arrays."""
    for mine, their in zip(one, other, strict=True):
        assert mine.keys() == their.keys(), (mine.keys(), their.keys())
        for name in mine:
            np.testing.assert_array_equal(mine[name], their[name], err_msg=name)


def rates(batches: Iterator[dict], clips: int) -> tuple[float, float]:
    """Records a second over one pass: of processor time, of all threads together, and by the clock."""
    began, clock = time.process_time(), time.perf_counter()
    count = sum(len(batch["frames"]) for batch in batches)
    assert count == clips, (count, clips)
    return clips / (time.process_time() - began), clips / (time.perf_counter() - clock)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--clips", type=int, default=96, help=f"a multiple of {BATCH} (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--workers", default="", help="numbers of processes, separated by commas")
    parser.add_argument("--json", help="also write the figures to this file")
    args = parser.parse_args()
    if args.clips % BATCH:
        raise SystemExit(f"--clips {args.clips} is no multiple of the batch of {BATCH}")
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    results = {}
    print(f"core {CORE}, {args.clips} clips of {FRAMES} frames, {args.repeats} alternating passes each")
    heads = ("ours/s (spread)", "tf.data/s (spread)")
    print(f"{'frames':7}{'MB/clip':>8}{heads[0]:>26}{heads[1]:>26}{'ratio':>7}{'by the clock':>19}{'ratio':>7}")
    for frames in ("jpeg", "raw"):
        with tempfile.TemporaryDirectory() as folder:
            directory = Path(folder)
            write_shards(directory, args.clips, frames)
            size = sum(path.stat().st_size for path in directory.glob("*.tfrecord-*")) / args.clips / 1e6
            readers = {"ours": ours(directory), "tf.data": theirs(directory, frames == "raw")}
            check_equal(readers["ours"](), readers["tf.data"]())  # and both are warm
            found = {name: [] for name in readers}
            for _ in range(args.repeats):
                for name, read in readers.items():
                    found[name].append(rates(read(), args.clips))
            counts = [int(count) for count in args.workers.split(",") if count]
            shared = {count: by_workers(directory, count, args.clips * args.repeats) for count in counts}
        median = {name: np.median(pairs, axis=0).tolist() for name, pairs in found.items()}
        ratio = (np.array(median["ours"]) / median["tf.data"]).tolist()
        spread = {name: (min(cpu), max(cpu)) for name, pairs in found.items() for cpu in [[pair[0] for pair in pairs]]}
        columns = [f"{median[name][0]:.0f} ({low:.0f}–{high:.0f})" for name, (low, high) in spread.items()]
        clock = f"{median['ours'][1]:.0f} : {median['tf.data'][1]:.0f}"
        print(
            f"{frames:7}{size:8.2f}{columns[0]:>26}{columns[1]:>26}{ratio[0]:7.2f}{clock:>19}{ratio[1]:7.2f}",
            flush=True,
        )
        for count, rate in shared.items():
            print(f"       training loader, {count} processes, {len(CORES)} cores: {rate:.0f} by the clock", flush=True)
        results[frames] = {
            "workers": shared,
            "median": median,
            "ratio": ratio,
            "passes": found,
            "megabytes_per_clip": size,
        }
    if args.json:
        Path(args.json).write_text(json.dumps({"clips": args.clips, "batch": BATCH, **results}, indent=1))


if __name__ == "__main__":
    main()
