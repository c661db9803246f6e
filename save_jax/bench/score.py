"""`bench score`: the one score at scale, beside plain NumPy.

All pairs, and the best ten without the matrix (`evaluation.scoring`), beside the plain matrix product and log-sum in
NumPy on the same data. With `--on-device`, for galleries that only an accelerator's memory holds: the best ten alone,
of an index that is made there, beside the floor that this device sets.
"""

import argparse
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from save_jax import sharding
from save_jax.bench import timing
from save_jax.bench.step import milliseconds, settings_of
from save_jax.evaluation import scoring
from save_jax.models import similarity

LOGIT_SCALE = np.float32(np.log(100.0))  # the largest that training allows
BEST = 10  # videos that top_k finds
AT_ONCE = 1000  # videos that NumPy scores at a time
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


def plain_numpy(texts: np.ndarray, videos: similarity.VideoIndex) -> np.ndarray:
    """The score as written in the papers: a matrix product, exp, sum over real frames, log; some videos at a time.

    It exponentiates directly, as the reference does, and would overflow where a cosine comes near 1.
    """
    texts = np.exp(LOGIT_SCALE) * texts / np.linalg.norm(texts, axis=1, keepdims=True)
    scores = np.empty((len(texts), len(videos.mask)), np.float32)
    for at in range(0, len(videos.mask), AT_ONCE):
        part = jax.tree.map(lambda x, at=at: x[at : at + AT_ONCE], videos)
        count, frames, dim = part.frames.shape
        product = texts @ part.frames.reshape(-1, dim).T
        np.exp(product, out=product)
        sums = np.einsum("qvt,vt->qv", product.reshape(-1, count, frames), part.mask.astype(np.float32))
        scores[:, at : at + count] = 0.5 * (texts @ part.mean.T + np.log(sums))
    return scores


def memory_needed(queries: int, videos: int, frames: int, dim: int, dtype: str) -> int:
    """Bytes: the index here, on the device and, for NumPy, in float32; three matrices of scores; four tiles."""
    numbers, size = videos * (frames + 1) * dim, jnp.dtype(dtype).itemsize
    return numbers * (2 * size + (4 if size < 4 else 0)) + 12 * queries * videos + 16 * scoring.TILE


def made_on_device(queries: int, videos: int, frames: int, dim: int, dtype: str, tile: int) -> tuple:
    """As `made`, but on the first device, where nothing else has to hold it; padded to a multiple of `tile`."""
    block, rows = min(videos, 1024), np.arange(-(-videos // tile) * tile)

    def make(key: jax.Array) -> tuple[jax.Array, similarity.VideoIndex]:
        keys = jax.random.split(key, 3)
        mask = jnp.arange(frames) < jax.random.randint(keys[1], (block, 1), 1, frames + 1)
        index = similarity.index(jax.random.normal(keys[0], (block, frames, dim)), mask)
        tokens, mean, mask = (x[rows % block] for x in (index.frames.astype(dtype), index.mean.astype(dtype), mask))
        index = similarity.VideoIndex(frames=tokens, mean=mean, mask=mask & (rows < videos)[:, None])
        return jax.random.normal(keys[2], (queries, dim)), index

    return jax.jit(make)(jax.random.key(0))


def top_k_row(
    queries: int, count: int, frames: int, dim: int, dtype: str, *, rounds: int, budget: float
) -> dict[str, Any]:
    """Times `top_k` beside what it cannot beat: reading the index once, and its products at the device's own rate.

    Both are measured in the same rounds: a sum over the index, and matrix products of float32 in full precision, which
    is the score's. The larger of the two is the floor.
    """
    platform = jax.devices()[0].platform
    tile = min(count, max(BEST, scoring.tile_of(queries, frames, platform)))
    texts, videos = made_on_device(queries, count, frames, dim, dtype, tile)
    read = jax.jit(lambda videos: sum(jnp.sum(x, dtype=jnp.float32) for x in (videos.frames, videos.mean)))
    flops = 2 * queries * count * (frames + 1) * dim
    size, products = timing.saturating(flops, platform)
    product, operations = timing.matrix_product(size, "float32", products, "highest")
    ways = {
        "top_k": lambda: scoring.top_k(texts, videos, jnp.asarray(LOGIT_SCALE), min(BEST, tile), tile),
        "read": lambda: read(videos),
        "product": product,
    }
    times = timing.alternate(ways, rounds, budget)
    rate = operations / times["product"]["median"]
    floors = {"read": times["read"]["median"], "products": flops / rate}
    return {
        "videos": count,
        "top_k": times["top_k"],
        "flops": flops,
        "matrix_rate": rate,
        "index_bytes": videos.frames.nbytes + videos.mean.nbytes,
        "floors": floors,  # seconds
        "over_floor": times["top_k"]["median"] / max(floors.values()),
    }


def of_top_k(args: argparse.Namespace) -> dict:
    """`--on-device`: a row for every number of videos."""
    machine, rows = timing.machine(), []
    print(timing.describe(machine))
    print(
        f"{args.queries} queries, {args.frames} frames of width {args.dim}, index in {args.dtype}, made on the device; "
        "milliseconds, median (smallest–largest) of rounds in turns"
    )
    columns = f"{'read once':>12}{'products':>12}{'over the larger':>17}{'index, GB':>11}"
    print(f"{'videos':>9}{f'top_k, k={BEST}':>28}{columns}")
    for count in args.videos:
        sizes = (args.queries, count, args.frames, args.dim, args.dtype)
        row = top_k_row(*sizes, rounds=args.rounds, budget=args.budget)
        floors = "".join(f"{1e3 * seconds:>12.1f}" for seconds in row["floors"].values())
        print(
            f"{count:>9}{milliseconds(row['top_k']):>28}{floors}{row['over_floor']:>17.2f}"
            f"{row['index_bytes'] / 1e9:>11.2f}",
            flush=True,
        )
        rows.append(row)
    return {"bench": "score", "machine": machine, "settings": settings_of(args), "rows": rows}


def score(args: argparse.Namespace) -> dict:
    """Times every number of videos that fits into half of this machine's memory."""
    if args.on_device:
        return of_top_k(args)
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
    logit_scale = jnp.asarray(LOGIT_SCALE)
    plain = jax.tree.map(lambda x: x if x.dtype == bool else x.astype(np.float32, copy=False), videos)
    tile = min(count, max(BEST, scoring.tile_of(queries, frames, jax.devices()[0].platform)))
    on_device = jax.device_put(scoring.pad(videos, tile), jax.devices()[0])
    texts_there = jax.device_put(texts, jax.devices()[0])
    ways = {
        "numpy": lambda: plain_numpy(texts, plain),
        "all_pairs": lambda: scoring.all_pairs(texts, videos, logit_scale, mesh),
        "top_k": lambda: scoring.top_k(texts_there, on_device, logit_scale, min(BEST, tile), tile),
    }
    product, operations = timing.matrix_product(precision="highest")  # as the score
    times = timing.alternate(ways | {"product": product}, rounds, budget)
    rate = operations / times.pop("product")["median"]
    flops = 2 * queries * count * (frames + 1) * dim
    few = jax.tree.map(lambda x: x[:1000], (videos, plain))
    ours, theirs = scoring.all_pairs(texts, few[0], logit_scale, mesh), plain_numpy(texts, few[1])
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
