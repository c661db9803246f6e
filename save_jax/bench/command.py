"""Measurements of this installation on this machine: `python -m save_jax.bench --help` lists them.

`score`, here, times the one score at scale: all pairs, and the best ten without the matrix (`ranking`), beside the
plain matrix product and log-sum in NumPy on the same data. `step`, `heads` and `memory` are of training
(`step.py`), `input` of what feeds it (`input.py`), `vlsa` of VLSA's pre-training (`vlsa.py`),
`efficiency` is the papers' table of cost.
"""

import argparse
import os
import sys

import jax
import jax.numpy as jnp
import numpy as np

from save_jax import sharding
from save_jax.bench import efficiency, timing
from save_jax.bench import step as bench_step
from save_jax.bench import vlsa as bench_vlsa
from save_jax.bench.step import milliseconds, settings_of, write
from save_jax.config import recipe, resolving
from save_jax.evaluation import scoring
from save_jax.models import similarity

LOGIT_SCALE = np.float32(np.log(100.0))  # the largest that training allows
BEST = 10  # videos that top_k finds
Arrays = tuple[np.ndarray, similarity.VideoIndex]


def made(queries: int, videos: int, frames: int, dim: int, dtype: str = "float32") -> Arrays:
    """Random texts float32 [queries, dim] and a video index, NumPy, stored in `dtype`; from 1 frame to all are real.

    Many videos repeat 1,024 random ones: times do not depend on values, and random numbers take longer than scores.
    """
    rng, block = np.random.default_rng(0), min(videos, 1024)
    tokens = rng.standard_normal((block, frames, dim), np.float32)
    mask = np.arange(frames) < rng.integers(1, frames + 1, (block, 1))
    index = jax.device_get(similarity.index(jnp.asarray(tokens), jnp.asarray(mask)))
    index = index.replace(frames=index.frames.astype(dtype), mean=index.mean.astype(dtype))
    return rng.standard_normal((queries, dim), np.float32), jax.tree.map(
        lambda x: np.resize(x, (videos, *x.shape[1:])), index
    )


def plain_numpy(texts: np.ndarray, videos: similarity.VideoIndex, at_once: int = 1000) -> np.ndarray:
    """The score as written in the papers: a matrix product, exp, sum over real frames, log; some videos at a time.

    It exponentiates directly, as the reference does, and would overflow where a cosine comes near 1.
    """
    texts = np.exp(LOGIT_SCALE) * texts / np.linalg.norm(texts, axis=1, keepdims=True)
    found = np.empty((len(texts), len(videos.mask)), np.float32)
    for at in range(0, len(videos.mask), at_once):
        part = jax.tree.map(lambda x, at=at: x[at : at + at_once], videos)
        count, frames, dim = part.frames.shape
        product = texts @ part.frames.reshape(-1, dim).T
        np.exp(product, out=product)
        sums = np.einsum("qvt,vt->qv", product.reshape(-1, count, frames), part.mask.astype(np.float32))
        found[:, at : at + count] = 0.5 * (texts @ part.mean.T + np.log(sums))
    return found


def memory_needed(queries: int, videos: int, frames: int, dim: int, dtype: str) -> int:
    """Bytes: the index here, on the device and, for NumPy, in float32; three matrices of scores; four tiles."""
    numbers, size = videos * (frames + 1) * dim, jnp.dtype(dtype).itemsize
    return numbers * (2 * size + (4 if size < 4 else 0)) + 12 * queries * videos + 16 * scoring.TILE


def score(args: argparse.Namespace) -> dict:
    """Times every number of videos that fits into half of this machine's memory."""
    machine, mesh = timing.machine(), sharding.make_mesh()
    print(timing.describe(machine))
    print(
        f"{args.queries} queries, {args.frames} frames of width {args.dim}, index in {args.dtype}; "
        "milliseconds, median (smallest–largest) of rounds in turns"
    )
    ways = ("NumPy, float32", "all_pairs", f"top_k, k={BEST}")
    columns = "  rounds  all_pairs/NumPy  ns/pair  of matrix rate, GFLOP/s"
    print(f"{'videos':>9}" + "".join(f"{name:>28}" for name in ways) + columns)
    rows, memory = [], os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for count in args.videos:
        sizes = (args.queries, count, args.frames, args.dim, args.dtype)
        if (needed := memory_needed(*sizes)) > memory / 2:
            row = {
                "videos": count,
                "not_run": f"needs {needed / 2**30:.0f} GB of {memory / 2**30:.0f}, half may be used",
            }
            print(f"{count:>9}  not run: {row['not_run']}")
        else:
            row = score_row(*sizes, mesh=mesh, rounds=args.rounds, budget=args.budget)
            cells = "".join(f"{milliseconds(row[name]):>28}" for name in ("numpy", "all_pairs", "top_k"))
            print(
                f"{count:>9}{cells}{row['numpy']['rounds']:>8}{row['all_pairs_over_numpy']:>17.2f}"
                f"{row['nanoseconds_per_pair']:>9.1f}"
                f"{row['share_of_matrix_rate']:>9.0%} of {row['matrix_rate'] / 1e9:.0f}",
                flush=True,
            )
        rows.append(row)
    return {"bench": "score", "machine": machine, "settings": settings_of(args), "rows": rows}


def score_row(
    queries: int, count: int, frames: int, dim: int, dtype: str, *, mesh: jax.sharding.Mesh, rounds: int, budget: float
) -> dict:
    """Times of one number of videos, and the largest difference between NumPy's scores and ours."""
    texts, videos = made(queries, count, frames, dim, dtype)
    plain = jax.tree.map(lambda x: x if x.dtype == bool else x.astype(np.float32, copy=False), videos)
    tile = min(count, max(BEST, scoring.tile_of(queries, frames)))
    on_device = jax.device_put(scoring.pad(videos, tile), jax.devices()[0])
    texts_there = jax.device_put(texts, jax.devices()[0])
    ways = {
        "numpy": lambda: plain_numpy(texts, plain),
        "all_pairs": lambda: scoring.all_pairs(texts, videos, LOGIT_SCALE, mesh),
        "top_k": lambda: scoring.top_k(texts_there, on_device, LOGIT_SCALE, min(BEST, tile), tile),
    }
    product, operations = timing.matrix_product(precision="highest")  # as the score
    times = timing.alternate(ways | {"product": product}, rounds, budget)
    rate = operations / times.pop("product")["median"]
    flops = 2 * queries * count * (frames + 1) * dim
    few = jax.tree.map(lambda x: x[:1000], (videos, plain))
    ours, theirs = scoring.all_pairs(texts, few[0], LOGIT_SCALE, mesh), plain_numpy(texts, few[1])
    return {
        "videos": count,
        **times,
        "all_pairs_over_numpy": times["all_pairs"]["median"] / times["numpy"]["median"],
        "nanoseconds_per_pair": 1e9 * times["all_pairs"]["median"] / (queries * count),
        "flops": flops,
        "matrix_rate": rate,  # operations a second of a float32 matrix product, in the same rounds
        "share_of_matrix_rate": flops / times["all_pairs"]["median"] / rate,
        "largest_difference": float(np.abs(ours - theirs).max()),
    }


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def _input(args: argparse.Namespace) -> dict:
    from save_jax.bench import (
        input as bench_input,  # it writes and reads shards: grain and its like, which the others do without
    )

    return bench_input.read(args)


def _caches(text: str) -> list[str]:
    if unknown := set(text.split(",")) - set(resolving.CHOICES["cache"]):
        raise argparse.ArgumentTypeError(f"{unknown.pop()} is none of {', '.join(resolving.CHOICES['cache'])}")
    return text.split(",")


def main(argv: list[str] | None = None) -> None:
    """The command line; `argv` instead of the process's arguments."""
    parser = argparse.ArgumentParser(prog="python -m save_jax.bench", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--rounds", type=int, default=5, help="times each way is timed; default %(default)s")
    common.add_argument("--json", metavar="FILE", help="also write the figures here")

    command = commands.add_parser("score", parents=[common], help="scoring at scale, beside plain NumPy")
    command.add_argument("--queries", type=int, default=1000)
    command.add_argument("--videos", type=_numbers, default=[1000, 10_000, 100_000], help="numbers, with commas")
    command.add_argument("--frames", type=int, default=12)
    command.add_argument("--dim", type=int, default=512)
    command.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32", help="of the stored index")
    command.add_argument("--budget", type=float, default=60.0, help="seconds after which no further round begins")
    command.set_defaults(run=score)

    command = commands.add_parser("efficiency", parents=[common], help="the papers' table of cost, as Markdown")
    command.add_argument("--videos", type=int, default=1000)
    command.set_defaults(run=efficiency.table)

    training = argparse.ArgumentParser(add_help=False, parents=[common])
    training.add_argument(
        "--dtype", choices=resolving.CHOICES["model.dtype"], default="float32", help="of the computation"
    )
    training.add_argument("--micro-batch", type=int, default=0, help="samples at a time; 0: all of them")
    training.add_argument("--remat", choices=resolving.CHOICES["model.remat"], default="none")
    training.add_argument("--attention", choices=resolving.CHOICES["model.attention"], default="xla")
    training.add_argument("--budget", type=float, default=60.0, help="seconds after which no further round begins")
    training.add_argument("--steps", type=int, default=1, help="steps in a row in each round, waited for at their end")

    model = argparse.ArgumentParser(add_help=False, parents=[training])
    model.add_argument("--model", choices=list(recipe.MODELS), default="save")
    model.add_argument("--backbone", choices=[*recipe.BACKBONES, "tiny"], default="B/32")
    model.add_argument("--batch", type=int, default=128, help="over all devices; default %(default)s")
    caches = {"type": _caches, "help": "with commas: none (live), ast (AST cached), towers (heads only); default all"}

    command = commands.add_parser("step", parents=[model], help="the training step: time, work, memory, start")
    command.add_argument("--cache", default=["none", "ast", "towers"], **caches)
    command.add_argument("--startup", action="store_true", help="also time two starts of a fresh process, up to a step")
    command.set_defaults(run=bench_step.step)

    command = commands.add_parser("first", parents=[model], help="one step and its memory, for timing from outside")
    command.add_argument("--cache", default=["none"], **caches)
    command.set_defaults(run=bench_step.first)

    command = commands.add_parser("heads", parents=[model], help="training on stored towers that lie on the device")
    command.add_argument("--clips", type=int, default=1024, help="in the tables; default %(default)s")
    command.set_defaults(run=bench_step.heads)

    command = commands.add_parser("memory", parents=[model], help="memory against micro-batch and remat")
    command.add_argument("--cache", default=["none"], **caches)
    command.add_argument("--micro-batches", type=_numbers, default=[0], help="numbers, with commas; 0: none")
    command.add_argument("--remats", type=lambda text: text.split(","), default=["none", "blocks", "dots"])
    command.add_argument("--measure", action="store_true", help="also run a step of each in a process of its own")
    command.set_defaults(run=bench_step.memory)

    command = commands.add_parser("input", parents=[common], help="what the loader gives, beside what a step takes")
    command.add_argument("--clips", type=int, default=256, help="in the made shards; default %(default)s")
    command.add_argument("--captions", type=int, default=4, help="of each clip; default %(default)s")
    command.add_argument("--frames", type=int, default=12)
    command.add_argument("--image-size", type=int, default=224)
    command.add_argument("--batch", type=int, default=128)
    command.add_argument("--batches", type=int, default=4, help="read in each round; default %(default)s")
    command.add_argument("--threads", type=_numbers, default=[1, 2, 4], help="numbers, with commas")
    command.add_argument("--workers", type=_numbers, default=[0], help="numbers of processes, with commas")
    command.add_argument("--step-ms", type=float, default=0.0, help="what a step takes: also the share of time waited")
    command.set_defaults(run=_input)

    command = commands.add_parser(
        "vlsa", parents=[training], help="VLSA's pre-training: what leaving hidden tokens out saves"
    )
    command.add_argument("--batch", type=int, default=0, help="over all devices; default 2 on a CPU, else 64")
    command.add_argument("--small", action="store_true", help="tiny sizes, to see that it runs")
    command.set_defaults(run=bench_vlsa.pretraining)

    args = parser.parse_args(argv)
    try:
        found = args.run(args)
    except ValueError as error:
        sys.exit(f"error: {error}")
    if args.json:
        write(args.json, found)
