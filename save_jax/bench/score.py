"""`bench score`: the one score at scale, beside plain NumPy.

All pairs, and the best ten without the matrix (`evaluation.scoring`), beside the plain matrix product and log-sum in
NumPy on the same data.
"""

import argparse
import os

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
