"""`bench step`, `heads` and `memory`: the training step on made batches that lie on the device already.

Everything but the input is what training runs: `state.create`, `make_train_step`, the optimiser, the same layouts. Only
sizes matter for the figures, so weights and batches are random.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from save_jax import config as config_lib
from save_jax import sharding
from save_jax.bench import timing
from save_jax.config import recipe
from save_jax.config.sizes import precision
from save_jax.data.files import write_json
from save_jax.data.records import FBANK_SHAPE, TEACHER_DIM
from save_jax.models import operations
from save_jax.models.retrieval import make_model
from save_jax.training import optim, state
from save_jax.training.objectives import Objective, RetrievalObjective
from save_jax.training.step import make_train_step

CACHES = ("towers", "ast", "none")  # least memory first: a device's peak never goes down again
NAMES = {"none": "live", "ast": "AST cached", "towers": "heads only"}
TOWERS = ("vision", "text", "ast")  # modules that have weights to start from
TOTAL_STEPS = 7030  # of the schedule: MSR-VTT-9k's 180,000 pairs in batches of 128, five times
Shapes = dict[str, tuple[tuple[int, ...], str]]


def config_of(args: argparse.Namespace, cache: str) -> ConfigDict:
    """The resolved config that the options of the command line describe."""
    config = config_lib.base()
    config.cache, config.batch_size, config.micro_batch = cache, args.batch, args.micro_batch
    config.model.dtype, config.model.remat, config.model.attention = args.dtype, args.remat, args.attention
    words = [f"model={args.model}", *([] if args.backbone == "tiny" else [f"backbone={args.backbone}"])]
    config = recipe.apply(config, ",".join(words))
    if args.backbone == "tiny":  # for tests, and to see that a bench runs
        config = config_lib.smoke(config)
        config.batch_size = args.batch
    return config_lib.resolve(config)


def batch_shapes(config: ConfigDict) -> Shapes:
    """Name → (shape, dtype) of what a training batch brings, live or cached as config.cache says."""
    m, size, frames, words = config.model, config.batch_size, config.data.max_frames, config.data.max_words
    towers, reads = config.cache == "towers", config_lib.branches(config)
    shapes: Shapes = {"frame_mask": ((size, frames), "bool")}
    shapes |= (
        {"visual": ((size, frames, m.embed_dim), "bfloat16"), "text": ((size, m.embed_dim), "bfloat16")}
        if towers
        else {"frames": ((size, frames, m.image_size, m.image_size, 3), "uint8"), "text_ids": ((size, words), "int32")}
    )
    if "audio" in reads:
        tokens = audio_tokens(config)
        shapes["ast" if config.cache != "none" else "fbank"] = (
            ((size, *tokens), "bfloat16") if config.cache != "none" else ((size, *FBANK_SHAPE), "float16")
        )
        shapes |= {name: ((size,), "bool") for name in ("has_audio", "has_teacher")}
        shapes |= {name: ((size, TEACHER_DIM), "float32") for name in ("teacher_video", "teacher_audio")}
    if "speech" in reads:
        shapes |= (
            {"speech": ((size, words, m.embed_dim), "bfloat16")} if towers else {"speech_ids": ((size, words), "int32")}
        )
    return shapes


def audio_tokens(config: ConfigDict) -> tuple[int, int]:
    """(tokens, width) of AST's trunk."""
    m = config.model
    grid = [(n - p) // s + 1 for n, p, s in zip(FBANK_SHAPE[::-1], m.ast_patch, m.ast_stride, strict=True)]
    return 1 + grid[0] * grid[1], m.ast_width


def made(shapes: Shapes, config: ConfigDict, sharding_of_rows: jax.sharding.Sharding) -> dict[str, jax.Array]:
    """Random arrays of these shapes, made on the devices; every frame, sound and teacher is there."""

    def one(key: jax.Array, name: str, shape: tuple[int, ...], dtype: str) -> jax.Array:
        if dtype == "bool":
            return jnp.ones(shape, bool)
        if name in ("frames", "text_ids", "speech_ids"):
            return jax.random.randint(key, shape, 0, 256 if name == "frames" else config.model.vocab_size, dtype)
        return jax.random.normal(key, shape, dtype)

    def all_of_them(key: jax.Array) -> dict[str, jax.Array]:
        keys = jax.random.split(key, len(shapes))
        return {name: one(k, name, *spec) for k, (name, spec) in zip(keys, shapes.items(), strict=True)}

    return jax.jit(all_of_them, out_shardings=sharding_of_rows)(jax.random.key(1))


class Step:
    """A compiled training step with its state: `run(batch, count)` trains `count` times and waits for the last."""

    def __init__(self, config: ConfigDict, mesh: Mesh, batch: dict[str, jax.Array]):
        model = make_model(config, mesh)
        optimizer = optim.make_optimizer(config.optim, TOTAL_STEPS)
        self.state = state.create(model, optimizer, config, mesh, made_towers(model, optimizer, config, mesh))
        step = make_train_step(RetrievalObjective(model, config), optimizer, config, mesh)
        self.compiled = step.lower(self.state, batch).compile()

    def run(self, batch: dict[str, jax.Array], count: int = 1) -> dict:
        for _ in range(count):
            self.state, parts = self.compiled(self.state, batch)
        return jax.block_until_ready(parts)


def made_towers(
    model: nn.Module, optimizer: optax.GradientTransformation, config: ConfigDict, mesh: Mesh
) -> dict[str, dict]:
    """Random towers, made on the host: they stand for weights that a run reads from files."""
    some = 0.02 * np.random.default_rng(0).standard_normal(1 << 20, np.float32)
    like = state.shapes(model, optimizer, config, mesh).params

    def one(x: jax.ShapeDtypeStruct) -> jax.Array:
        numbers = np.resize(some, x.shape)  # over and over: reading a file would take no longer
        return jax.make_array_from_callback(x.shape, x.sharding, lambda index: numbers[index])

    return {name: jax.tree.map(one, like[name]) for name in TOWERS if name in like}


def compiled_bytes(compiled: jax.stages.Compiled) -> int:
    """What a device holds while the program runs."""
    return sum(parts_of_memory(compiled).values())


def parts_of_memory(compiled: jax.stages.Compiled) -> dict[str, int]:
    """Bytes of arguments, of results in other places, of inner values, and of the program's code itself."""
    said = memory_of(compiled)
    return {
        "arguments": said.argument_size_in_bytes,
        "results": said.output_size_in_bytes - said.alias_size_in_bytes,
        "temporaries": said.temp_size_in_bytes,
        "code": said.generated_code_size_in_bytes,
    }


def memory_of(compiled: jax.stages.Compiled) -> Any:
    """What the compiler says of a program's memory. Raises ValueError on a backend whose compiler says nothing."""
    said = compiled.memory_analysis()
    if said is None:
        raise ValueError("the compiler of these devices does not say what memory a program takes")
    return said


def peak_bytes() -> int | None:
    """The most that the first device has held in this process, where the backend says."""
    return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")


# ---------------------------------------------------------------- bench step


def step(args: argparse.Namespace) -> dict:
    """One row for each setting of config.cache that is asked for."""
    settings = {cache: config_of(args, cache) for cache in CACHES if cache in args.cache}
    # First of all, while this process holds no device: memory that it keeps would be missed in theirs.
    starts = {cache: start_up(args, cache) if args.startup else {} for cache in settings}
    machine, mesh = timing.machine(), sharding.make_mesh()
    print(timing.describe(machine))
    print(
        f"{args.model}, {args.backbone}, batch {args.batch}, {args.dtype}, micro-batch {args.micro_batch or 'none'}, "
        f"remat {args.remat}, attention {args.attention}; ms: median (smallest–largest) of rounds in turns"
    )
    print("TFLOP: of the method as written (models/operations.py); our resampler's attention computes less of it")
    print(
        f"{'':12}{'ms':>28}{'TFLOP':>9}{'TFLOP/s':>10}{'of matrix rate':>24}{'GiB':>8}{'start, s: cold':>16}{'warm':>7}"
    )
    rows = []
    for cache, config in settings.items():
        row = {"cache": cache, "batch": config.batch_size, **step_row(config, mesh, args), "start": starts[cache]}
        widths, failed = {"cold": ">16.1f", "warm": ">7.1f"}, starts[cache].get("failed")
        start = "".join(f"{starts[cache][name]:{width}}" for name, width in widths.items() if name in starts[cache])
        start += f"  failed: {failed}" if failed else ""
        print(
            f"{NAMES[cache]:12}{milliseconds(row['step']):>28}{row['operations'] / 1e12:>9.3g}"
            f"{row['rate'] / 1e12:>10.3g}{row['share_of_matrix_rate']:>10.0%} of {row['matrix_rate'] / 1e12:<10.3g}"
            f"{row['bytes'] / 2**30:>8.2f}{start}",
            flush=True,
        )
        rows.append(row)
        if args.json:  # what is measured is kept, whatever befalls the rows to come
            write_json(args.json, {"bench": "step", "machine": machine, "settings": settings_of(args), "rows": rows})
    return {"bench": "step", "machine": machine, "settings": settings_of(args), "rows": rows}


def step_row(config: ConfigDict, mesh: Mesh, args: argparse.Namespace) -> dict:
    """Time, counted work, share of the matrix rate measured in the same rounds, and memory, of one config."""
    batch = made(batch_shapes(config), config, sharding.by_sample(mesh))
    training = Step(config, mesh, batch)
    training.run(batch)
    first_step = timing.since_start()
    peak = peak_bytes()  # before the product lies there, too
    parts = operations.of_step(config)
    total = sum(parts.values())
    size, count = timing.saturating(args.steps * total, sharding.platform(mesh))
    product, product_operations = timing.matrix_product(size, config.model.dtype, count, precision(config))
    ways = {"step": lambda: training.run(batch, args.steps), "product": product}
    times = timing.alternate(ways, args.rounds, args.budget)
    seconds = {name: x / args.steps if name != "rounds" else x for name, x in times["step"].items()}
    rate = product_operations / times["product"]["median"]
    return {
        "step": seconds,
        "operations": total,
        "parts": parts,
        "rate": total / seconds["median"],
        "matrix_rate": rate,  # operations a second of matrix products of config.model.dtype
        "share_of_matrix_rate": total / seconds["median"] / rate,
        "bytes": peak or compiled_bytes(training.compiled),
        "bytes_from": "device" if peak else "compiler",
        "bytes_compiled": compiled_bytes(training.compiled),
        "first_step": first_step,  # seconds from this process's start, where that is known
    }


def start_up(args: argparse.Namespace, cache: str) -> dict[str, float | str]:
    """Seconds from the start of a fresh process to its first step done: without and with compiled programs kept.

    `failed` holds the last words of the process that came to no step.
    """
    seconds: dict[str, float | str] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("cold", "warm"):
            one = first_in_process(args, cache, folder)
            if "failed" in one:
                return seconds | {"failed": one["failed"]}
            seconds[name] = one["seconds"]
    return seconds


def first_in_process(args: argparse.Namespace, cache: str, folder: str) -> dict:
    """What `first` prints in a process of its own that keeps compiled programs in `folder`, and its seconds in all."""
    options = ("model", "backbone", "batch", "dtype", "micro_batch", "remat", "attention")
    options = [f"--{name.replace('_', '-')}={getattr(args, name)}" for name in options]
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "save_jax.bench", "first", f"--cache={cache}", *options],
        env=os.environ | {"JAX_COMPILATION_CACHE_DIR": folder, timing.BEGAN: str(time.time())},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["no message"])[-1][:300]}
    return {"seconds": time.perf_counter() - begin} | json.loads(done.stdout.splitlines()[-1])


def first(args: argparse.Namespace) -> dict:
    """Begins, trains one step and prints the memory it took: what `step` and `memory` start in fresh processes."""
    config, mesh = config_of(args, args.cache[0]), sharding.make_mesh()
    batch = made(batch_shapes(config), config, sharding.by_sample(mesh))
    loss = float(Step(config, mesh, batch).run(batch)["loss"])
    figures = {"loss": loss, "peak": peak_bytes(), "first_step": timing.since_start()}
    print(json.dumps(figures))
    return figures


# ---------------------------------------------------------------- bench heads


def heads(args: argparse.Namespace) -> dict:
    """Training on stored outputs of all towers that lie on the device, batches gathered there by number."""
    from save_jax.training import resident  # it reads shards: grain and its like, which the other benches do without

    config, mesh = config_of(args, "towers"), sharding.make_mesh()
    machine = timing.machine()
    shapes = batch_shapes(config)
    tables = made(
        {name: (resident.pieces_shape((args.clips, *shape[1:])), dtype) for name, (shape, dtype) in shapes.items()},
        config,
        sharding.replicated(mesh),
    )
    rng = np.random.default_rng(0)
    tables["clip"] = jnp.arange(args.clips)  # one caption each: what is read for a batch is the same
    gather = resident.make_gather({name: shape[1:] for name, (shape, _) in shapes.items()}, mesh)

    def rows() -> Iterator[dict]:
        while True:
            numbers = rng.integers(0, args.clips, config.batch_size).astype(np.int32)
            yield sharding.to_devices({"pair": numbers}, mesh)

    batches = map(lambda numbers: gather(tables, numbers), rows())
    training = Step(config, mesh, trimmed(next(batches)))

    def some_steps() -> dict:
        for _ in range(args.steps):
            training.state, parts = training.compiled(training.state, trimmed(next(batches)))
        return parts

    times = timing.alternate({"steps": some_steps}, args.rounds, args.budget)["steps"]
    seconds = {name: x / args.steps if name != "rounds" else x for name, x in times.items()}
    pairs = config.batch_size / seconds["median"]
    print(timing.describe(machine))
    print(
        f"heads only, {args.clips} clips on the device, batch {config.batch_size}, {args.dtype}: "
        f"{milliseconds(seconds)} ms a step, {pairs:.0f} pairs/s; at this rate MSR-VTT-9k's {TOTAL_STEPS:,} steps "
        f"would take {TOTAL_STEPS * seconds['median'] / 60:.1f} minutes"
    )
    return {
        "bench": "heads",
        "machine": machine,
        "settings": settings_of(args),
        "step": seconds,
        "pairs_per_second": pairs,
        "minutes_at_this_rate": TOTAL_STEPS * seconds["median"] / 60,
    }


def trimmed(batch: dict) -> dict:
    """A gathered batch without what only says where it comes from."""
    return {name: x for name, x in batch.items() if name not in ("clip", "pair")}


# ---------------------------------------------------------------- bench memory


def memory(args: argparse.Namespace) -> dict:
    """Memory of a device against micro-batch and remat, as compiled; with --measure also as a first step finds it."""
    rows, settings = [], [(micro, remat) for remat in args.remats for micro in args.micro_batches]
    for micro, remat in settings:
        args.micro_batch, args.remat = micro, remat
        with tempfile.TemporaryDirectory() as folder:  # before this process holds the device
            kept = os.environ.get("JAX_COMPILATION_CACHE_DIR", folder)  # no start is timed here
            run = first_in_process(args, args.cache[0], kept) if args.measure else None
            rows.append({"micro_batch": micro, "remat": remat, "run": run})
    machine, mesh = timing.machine(), sharding.make_mesh()
    print(timing.describe(machine))
    print(f"{NAMES[args.cache[0]]}, batch {args.batch}, {args.dtype}; GiB on a device")
    print(f"{'micro-batch':>12}{'remat':>8}{'compiled':>10}{'measured':>10}")
    for row in rows:
        args.micro_batch, args.remat = row["micro_batch"], row["remat"]
        config = config_of(args, args.cache[0])
        objective = RetrievalObjective(make_model(config, mesh), config)
        program = lower(objective, optim.make_optimizer(config.optim, TOTAL_STEPS), batch_shapes(config), config, mesh)
        row["bytes_compiled"] = compiled_bytes(program.compile())
        run = row["run"] or {}
        measured = f"{run['peak'] / 2**30:.2f}" if run.get("peak") else run.get("failed", "")
        compiled = f"{row['bytes_compiled'] / 2**30:.2f}"
        print(f"{row['micro_batch'] or args.batch:>12}{row['remat']:>8}{compiled:>10}{measured:>10}", flush=True)
    return {"bench": "memory", "machine": machine, "settings": settings_of(args), "rows": rows}


def lower(
    objective: Objective, optimizer: optax.GradientTransformation, shapes: Shapes, config: ConfigDict, mesh: Mesh
) -> jax.stages.Lowered:
    """The training step as the loop runs it, lowered for the devices of a mesh; nothing is allocated."""
    rows = sharding.by_sample(mesh)
    shapes = shapes | {"clip": ((config.batch_size,), "int32"), "stop": ((config.batch_size,), "bool")}
    batch = {name: jax.ShapeDtypeStruct(shape, dtype, sharding=rows) for name, (shape, dtype) in shapes.items()}
    states = state.shapes(objective.model, optimizer, config, mesh)
    return make_train_step(objective, optimizer, config, mesh).lower(states, batch)


# ---------------------------------------------------------------- printing


def milliseconds(times: dict) -> str:
    """`median (smallest–largest)`."""
    return f"{1e3 * times['median']:.1f} ({1e3 * times['min']:.1f}–{1e3 * times['max']:.1f})"


def settings_of(args: argparse.Namespace) -> dict:
    """What was asked for, to be written beside the figures."""
    return {name: value for name, value in vars(args).items() if name not in ("run", "json", "command")}
