"""Ranking among very many windows: time of a query, and how much of the full score's answer it finds.

    python tests/bench/search_scale.py --library LIBRARY --texts FILE --windows 100000 [--stores lance]

Vectors are those of a real index with jitter, since random ones would say nothing about neighbours. They are turned
into the width of the papers' models by an orthonormal map, which changes no product; the jitter has the whole width.
Frames move as their mean did.
"""

import argparse
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from save_jax.search import ranking
from save_jax.search.door import open_library
from save_jax.search.library import CANDIDATES

JITTER = 0.35  # length of what is added to a unit vector
TRUTHS = 20  # queries whose full answer is computed


def widened(width: int, of: int) -> np.ndarray:
    """float32 [of, width] with orthonormal rows."""
    return np.linalg.qr(np.random.default_rng(1).standard_normal((width, of)))[0].T.astype(np.float32)


def jittered(means: np.ndarray, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(float32 [count, d] unit, which of the real ones each is near)."""
    near = rng.integers(len(means), size=count)
    made = np.empty((count, means.shape[1]), np.float32)
    for first in range(0, count, 50_000):
        part = means[near[first : first + 50_000]]
        noise = rng.standard_normal(part.shape, np.float32)
        noise *= JITTER / np.linalg.norm(noise, axis=1, keepdims=True)
        made[first : first + len(part)] = part + noise
    return made / np.linalg.norm(made, axis=1, keepdims=True), near


def frames_of(
    stored: np.ndarray, real: np.ndarray, near: np.ndarray, means: np.ndarray, numbers: np.ndarray
) -> np.ndarray:
    """Frames of jittered windows: those of the real one, moved as far as its mean was."""
    chosen = stored[near[numbers]]
    shift = (means[numbers] - real[near[numbers]])[:, None] * np.linalg.norm(chosen, axis=-1, keepdims=True)
    return (chosen + shift).astype(np.float16)


def percentiles(seconds: list[float]) -> str:
    return f"{1000 * np.percentile(seconds, 50):.1f} | {1000 * np.percentile(seconds, 95):.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--library", required=True)
    parser.add_argument("--windows", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--texts", required=True, help="a file of queries, one a line")
    parser.add_argument("--stores", default="", help="lance: its flat scan and its IvfHnswFlat, too")
    args = parser.parse_args()
    library, rng = open_library(args.library), np.random.default_rng(0)
    turn = widened(args.width, library.store.about.size)
    real = np.asarray(library.view.means) @ turn
    means, near = jittered(real, args.windows, rng)
    stored, mask, _ = library.store.frames(np.arange(len(library.view)))
    stored = stored.astype(np.float32) @ turn
    texts = [line.strip() for line in Path(args.texts).read_text(encoding="utf-8").splitlines() if line.strip()]
    vectors = library.embedder.texts(texts[: args.queries]) @ turn
    judged = vectors[:: max(1, len(vectors) // TRUTHS)][:TRUTHS]

    def scored(vector: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        frames = frames_of(stored, real, near, means, numbers)
        return library.embedder.score(vector, frames, mask[near[numbers]])

    scale = float(np.exp(library.embedder.model.params["logit_scale"]))
    parts = []
    for first in range(0, len(means), 8192):  # the full score of every window, as models/similarity.py has it
        numbers = np.arange(first, min(first + 8192, len(means)))
        frames, there = stored[near[numbers]], mask[near[numbers]]
        shift = (means[numbers] - real[near[numbers]])[:, None]
        frames = frames + shift * np.linalg.norm(frames, axis=-1, keepdims=True)
        frames /= np.maximum(np.linalg.norm(frames, axis=-1, keepdims=True), 1e-12)
        mean = (frames * there[..., None]).sum(axis=1)
        mean /= np.maximum(np.linalg.norm(mean, axis=-1, keepdims=True), 1e-12)
        by_frame = np.where(there[..., None], scale * frames @ judged.T, -np.inf)
        parts.append(0.5 * (scale * mean @ judged.T + np.logaddexp.reduce(by_frame, axis=1)))
    full = np.concatenate(parts)
    truths = [set(np.argsort(-scores, kind="stable")[:10].tolist()) for scores in full.T]

    def recall(first_stage) -> float:
        hits = 0
        for vector, truth in zip(judged, truths, strict=True):
            numbers = first_stage(vector)
            best = numbers[np.argsort(-scored(vector, numbers), kind="stable")[:10]]
            hits += len(truth & set(best.tolist()))
        return hits / (10 * len(truths))

    print("| first stage | p50 ms | p95 ms | with the score of 512, p95 ms | recall@10 of the full score |")
    print("|---" * 5 + "|")

    def row(name: str, first_stage) -> None:
        first_stage(vectors[0]), scored(vectors[0], first_stage(vectors[0]))
        alone, both = [], []
        for vector in vectors:
            begin = time.perf_counter()
            numbers = first_stage(vector)
            alone.append(time.perf_counter() - begin)
            made = frames_of(stored, real, near, means, numbers)  # made, where the product reads
            begin = time.perf_counter()
            library.embedder.score(vector, made, mask[near[numbers]])
            both.append(alone[-1] + time.perf_counter() - begin)
        print(f"| {name} | {percentiles(alone)} | {1000 * np.percentile(both, 95):.1f} | {recall(first_stage):.3f} |")
        sys.stdout.flush()

    row("NumPy, exact", lambda vector: ranking.best(means, vector, CANDIDATES))
    if "lance" in args.stores:
        _lance(means, row)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"\nmost memory: {most:.2f} GiB; the means are {means.nbytes / 2**20:.0f} MiB")


def _lance(means: np.ndarray, row) -> None:
    import lancedb
    import pyarrow as pa

    folder = tempfile.mkdtemp()
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(means.ravel()), means.shape[1])
    table = lancedb.connect(folder).create_table("t", pa.table({"n": np.arange(len(means)), "vector": vectors}))

    def search(**options):
        def first_stage(vector: np.ndarray) -> np.ndarray:
            query = table.search(vector).distance_type("dot").select(["n"]).limit(CANDIDATES)
            for name, value in options.items():
                query = getattr(query, name)(value)
            return query.to_arrow()["n"].to_numpy()

        return first_stage

    row("LanceDB, flat", search())
    begin = time.perf_counter()
    table.create_index(
        "dot", vector_column_name="vector", index_type="IVF_HNSW_FLAT", num_partitions=max(1, len(means) // 50_000)
    )
    row(f"LanceDB, IvfHnswFlat (made in {time.perf_counter() - begin:.0f} s)", search(nprobes=20, ef=2 * CANDIDATES))
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
