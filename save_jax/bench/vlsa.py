"""`bench vlsa`: a pre-training step of VLSA that leaves masked tokens out, beside one whose encoder reads them all.

Both run in turns on the same made batch, which lies on the device already, through what training runs: `state.create`,
`make_train_step`, AdamW. Only sizes matter for the figures, so weights and batches are random.
"""

import argparse
import os

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from save_jax import config as config_lib
from save_jax import sharding
from save_jax.bench import step as bench_step
from save_jax.bench import timing
from save_jax.bench.step import compiled_bytes, memory_of, milliseconds, peak_bytes, settings_of
from save_jax.config.sizes import precision
from save_jax.models import operations
from save_jax.models.vlsa import make_model
from save_jax.training import optim, state
from save_jax.training.step import make_train_step
from save_jax.training.vlsa_objectives import Pretraining

WAYS = {"visible": True, "all": False}  # tokens that the encoder reads → config.model.drop_hidden
ASKED = 2.5  # times as fast, at least, as reading all of them


def config_of(args: argparse.Namespace, way: str) -> ConfigDict:
    """The resolved config that the options of the command line describe; `way` is a key of WAYS."""
    config = config_lib.vlsa_base("vlsa-pretrain")
    if args.small:  # for tests, and to see that a bench runs
        config.model.image_size, config.model.vocab_size = 32, 600
        config = config_lib.smoke(config)
    config.batch_size = args.batch or (2 if sharding.platform(sharding.make_mesh()) == "cpu" else 64)
    config.micro_batch = args.micro_batch
    config.model.dtype, config.model.remat, config.model.attention = args.dtype, args.remat, args.attention
    config.model.drop_hidden = WAYS[way]
    return config_lib.resolve(config)


def batch_shapes(config: ConfigDict) -> bench_step.Shapes:
    """Name → (shape, dtype) of what a batch of pre-training brings."""
    m, size, frames = config.model, config.batch_size, config.data.max_frames
    return {
        "frames": ((size, frames, m.image_size, m.image_size, 3), "uint8"),
        "frame_mask": ((size, frames), "bool"),
        "words": ((size, config.data.max_words), "int32"),
        "spectrogram": ((size, *m.spectrogram), "float16"),
        "has_audio": ((size,), "bool"),
        "draw": ((size,), "int32"),
    }


def made(config: ConfigDict, mesh: Mesh) -> dict[str, jax.Array]:
    """A random batch, made on the devices; every frame, word and sound is there."""
    limits = {"frames": (0, 256), "words": (1, config.model.vocab_size), "draw": (0, 2**31 - 1)}

    def one(key: jax.Array, name: str, shape: tuple[int, ...], dtype: str) -> jax.Array:
        if dtype == "bool":
            return jnp.ones(shape, bool)
        if name in limits:
            least, limit = limits[name]
            return jax.random.randint(key, shape, least, limit, dtype)
        return jax.random.normal(key, shape, dtype)

    def all_of_them(key: jax.Array) -> dict[str, jax.Array]:
        shapes = batch_shapes(config)
        keys = jax.random.split(key, len(shapes))
        return {name: one(k, name, *spec) for k, (name, spec) in zip(keys, shapes.items(), strict=True)}

    return jax.jit(all_of_them, out_shardings=sharding.by_sample(mesh))(jax.random.key(1))


class Step(bench_step.Step):
    """A compiled step of pre-training with its state."""

    def __init__(self, config: ConfigDict, mesh: Mesh, batch: dict[str, jax.Array]):
        model, optimizer = make_model(config, mesh), optim.adamw(config.optim, config.steps)
        self.state = state.create(model, optimizer, config, mesh, {})
        step = make_train_step(Pretraining(model, config), optimizer, config, mesh)
        self.compiled = step.lower(self.state, batch).compile()

    @property
    def parameters(self) -> int:
        return sum(x.size for x in jax.tree.leaves(self.state.params))


def check_memory(programs: dict[str, jax.stages.Compiled]) -> None:
    """Raises ValueError, before anything runs, where a device cannot hold all states and the inner values of a step.

    A device that does not say how much it has is taken to have this machine's memory.
    """
    arguments = {way: memory_of(program).argument_size_in_bytes for way, program in programs.items()}
    memory = (jax.devices()[0].memory_stats() or {}).get("bytes_limit")
    memory = memory or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for way, program in programs.items():
        needed = sum(arguments.values()) - arguments[way] + compiled_bytes(program)
        if needed > memory:
            raise ValueError(
                f"a step whose encoder reads {way} tokens needs {needed / 2**30:.1f} GiB, with the states of all ways, "
                f"and a device has {memory / 2**30:.1f}; try a smaller --batch or --micro-batch, --remat blocks or "
                "--attention cudnn"
            )


def pretraining(args: argparse.Namespace) -> dict:
    """A row for each of WAYS, and how many times as long the second takes."""
    machine, mesh = timing.machine(), sharding.make_mesh()
    configs = {way: config_of(args, way) for way in WAYS}
    config = configs["visible"]
    sharding.check_batch_size(config.batch_size, mesh, "--batch")
    print(timing.describe(machine))
    print(
        f"VLSA pre-training{', tiny sizes' if args.small else ''}, batch {config.batch_size}, {args.dtype}, "
        f"micro-batch {args.micro_batch or 'none'}, remat {args.remat}, attention {args.attention}; "
        "ms: median (smallest–largest) of rounds in turns",
        flush=True,
    )
    batch = made(config, mesh)
    trainings = {way: Step(config, mesh, batch) for way, config in configs.items()}
    check_memory({way: training.compiled for way, training in trainings.items()})
    peaks = {}
    for way, training in trainings.items():
        if peak_bytes() is not None:  # a CPU does not say, and its steps are long
            training.run(batch)
        peaks[way] = peak_bytes()  # never goes down again, and both states are held: of the largest way so far

    counts = {way: operations.of_pretraining(config) for way, config in configs.items()}
    totals = {way: sum(parts.values()) for way, parts in counts.items()}
    sides = timing.saturating(args.steps * totals["visible"], sharding.platform(mesh))
    product, product_operations = timing.matrix_product(sides[0], config.model.dtype, sides[1], precision(config))
    ways = {way: lambda training=training: training.run(batch, args.steps) for way, training in trainings.items()}
    times = timing.alternate(ways | {"product": product}, args.rounds, args.budget)
    rate = product_operations / times["product"]["median"]

    print(
        f"{'encoder reads':14}{'ms':>28}{'clips/s':>10}{'TFLOP':>9}{'of matrix rate':>22}{'GiB':>8}{'parameters':>13}"
    )
    rows = []
    for way, training in trainings.items():
        seconds = {name: x / args.steps if name != "rounds" else x for name, x in times[way].items()}
        row = {
            "encoder_reads": way,
            "step": seconds,
            "clips_per_second": config.batch_size / seconds["median"],
            "operations": totals[way],
            "parts": counts[way],
            "rate": totals[way] / seconds["median"],
            "matrix_rate": rate,  # operations a second of matrix products of config.model.dtype, in the same rounds
            "share_of_matrix_rate": totals[way] / seconds["median"] / rate,
            "bytes_compiled": compiled_bytes(training.compiled),
            "bytes_peak": peaks[way],
            "parameters": training.parameters,
        }
        print(
            f"{way + ' tokens':14}{milliseconds(seconds):>28}{row['clips_per_second']:>10.3g}"
            f"{totals[way] / 1e12:>9.3g}{row['share_of_matrix_rate']:>9.0%} of {rate / 1e12:<9.3g}"
            f"{row['bytes_compiled'] / 2**30:>8.2f}{row['parameters']:>13,}",
            flush=True,
        )
        rows.append(row)
    visible, everything = rows
    ratio = everything["step"]["median"] / visible["step"]["median"]
    work = everything["operations"] / visible["operations"]
    print(
        f"leaving masked tokens out: {ratio:.2f} times as fast, for {work:.2f} times less work; "
        f"asked of ViT-Base: {ASKED}. GiB: as compiled, of one device"
    )
    return {
        "bench": "vlsa",
        "machine": machine,
        "settings": settings_of(args),
        "batch": config.batch_size,
        "rows": rows,
        "ratio": ratio,
        "ratio_of_operations": work,
    }
