"""Search among very many windows: time of a question through the whole product, and which first stage finds what.

    python tests/bench/search_scale.py --library LIBRARY --texts FILE --work FOLDER --windows 100000 \
        [--parts stages,product,proof] [--stores usearch,lance-flat,lance-hnsw] [--candidates 128,512]

Vectors are those of a real index with jitter, since random ones would say nothing about neighbours. They are turned
into the width of the papers' models by an orthonormal map, which changes no product; the jitter has the whole width.
Frames move as their mean did, and are repeated up to the papers' 12.
"""

import argparse
import concurrent.futures
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from save_jax.search import ranking, words
from save_jax.search.door import open_library
from save_jax.search.embedder import Embedder
from save_jax.search.library import CANDIDATES, Library
from save_jax.search.store import READY, TABLES, Store, segment_schema, size_of, window_schema, with_words
from save_jax.search.windows import Cut

JITTER = 0.35  # length of what is added to a unit vector
WIDTH, FRAMES = 512, 12
TRUTHS = 20  # queries whose full answer is computed
OF_A_FILE = 100  # windows
BATCH = 5000
CLIENTS = 50
AT_ONCE = 2  # questions that the server answers at a time
SLOW = 0.5  # seconds of a question, from which on few are asked


def widened(width: int) -> np.ndarray:
    """float32 [width, WIDTH] with orthonormal rows."""
    return np.linalg.qr(np.random.default_rng(1).standard_normal((WIDTH, width)))[0].T.astype(np.float32)


def jittered(means: np.ndarray, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(float32 [count, d] unit, which of the real ones each is near)."""
    near = rng.integers(len(means), size=count)
    made = np.empty((count, means.shape[1]), np.float32)
    for first in range(0, count, 50_000):
        part = means[near[first : first + 50_000]]
        noise = rng.standard_normal(part.shape, np.float32)
        noise *= JITTER / np.linalg.norm(noise, axis=1, keepdims=True)
        part = part + noise
        made[first : first + len(part)] = part / np.linalg.norm(part, axis=1, keepdims=True)
    return made, near


class Windows:
    """Many windows made of the real ones of a library: means at once, frames as they are asked for."""

    def __init__(self, library: Library, count: int):
        self.library, self.count = library, count
        self.turn = widened(library.store.about.size)
        self.real = np.asarray(library.view.means) @ self.turn
        self.means, self.near = jittered(self.real, count, np.random.default_rng(0))
        stored, mask = library.store.frames(library.view.table, np.arange(len(library.view)))
        places = np.arange(FRAMES) % stored.shape[1]
        self.stored, self.there = (stored.astype(np.float32) @ self.turn)[:, places], mask[:, places]

    def frames(self, numbers: np.ndarray) -> np.ndarray:
        """float16 [n, t, d]: those of the real window, moved as far as its mean was."""
        chosen = self.stored[self.near[numbers]]
        shift = (self.means[numbers] - self.real[self.near[numbers]])[:, None]
        return (chosen + shift * np.linalg.norm(chosen, axis=-1, keepdims=True)).astype(np.float16)

    def mask(self, numbers: np.ndarray) -> np.ndarray:
        return self.there[self.near[numbers]]

    def scores(self, vectors: np.ndarray) -> np.ndarray:
        """float32 [n, queries]: the full score of every window, as models/similarity.py has it."""
        scale, parts = float(np.exp(self.library.embedder.model.params["logit_scale"])), []
        for first in range(0, self.count, 8192):
            numbers = np.arange(first, min(first + 8192, self.count))
            frames, there = self.frames(numbers).astype(np.float32), self.mask(numbers)
            frames /= np.maximum(np.linalg.norm(frames, axis=-1, keepdims=True), 1e-12)
            mean = (frames * there[..., None]).sum(axis=1)
            mean /= np.maximum(np.linalg.norm(mean, axis=-1, keepdims=True), 1e-12)
            by_frame = np.where(there[..., None], scale * frames @ vectors.T, -np.inf)
            parts.append(0.5 * (scale * mean @ vectors.T + np.logaddexp.reduce(by_frame, axis=1)))
        return np.concatenate(parts)


def percentiles(seconds: list[float]) -> str:
    return f"{1000 * np.percentile(seconds, 50):.1f} | {1000 * np.percentile(seconds, 95):.1f}"


def memory() -> str:
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB at most"


# ---------------------------------------------------------------- the first stage


def stages(windows: Windows, vectors: np.ndarray, stores: list[str], counts: list[int], work: Path) -> None:
    """One row for each first stage: time of its candidates, and what of the full score's ten they hold."""
    judged = vectors[:: max(1, len(vectors) // TRUTHS)][:TRUTHS]
    truths = [set(np.argsort(-scores, kind="stable")[:10].tolist()) for scores in windows.scores(judged).T]
    print(
        "| first stage | made in s | p50 ms | p95 ms | two at once, p95 ms | recall@10 of the full score | memory |\n"
        + "|---" * 7
        + "|"
    )

    def row(name: str, made: float, first_stage: Callable[[np.ndarray], np.ndarray]) -> None:
        first_stage(vectors[0])
        slow = timed(lambda: first_stage(vectors[0])) > SLOW
        alone = [timed(lambda v=vector: first_stage(v)) for vector in (vectors[:5] if slow else vectors)]
        together = []
        if not slow:
            with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
                together = list(pool.map(lambda vector: timed(lambda: first_stage(vector)), [*vectors, *vectors]))
        hits = 0
        for vector, truth in zip(judged, truths, strict=True):
            numbers = first_stage(vector)
            scores = windows.library.embedder.score(vector, windows.frames(numbers), windows.mask(numbers))
            hits += len(truth & set(numbers[np.argsort(-scores, kind="stable")[:10]].tolist()))
        together_95 = f"{1000 * np.percentile(together, 95):.0f}" if together else "–"
        recall = hits / (10 * len(truths))
        print(f"| {name} | {made:.0f} | {percentiles(alone)} | {together_95} | {recall:.3f} | {memory()} |")
        sys.stdout.flush()

    for count in counts:
        row(f"NumPy, exact, {count}", 0, lambda vector, count=count: ranking.best(windows.means, vector, count))
    if "usearch" in stores:
        usearch(windows, row)
    if {"lance-flat", "lance-hnsw"} & {*stores}:
        lance(windows, row, stores, work)
    print(f"\nthe means: {windows.means.nbytes / 2**20:.0f} MiB")


def usearch(windows: Windows, row) -> None:
    from usearch.index import Index

    begin = time.perf_counter()
    index = Index(ndim=WIDTH, metric="ip", dtype="f16", expansion_search=2 * CANDIDATES)
    index.add(np.arange(windows.count), windows.means)
    made = time.perf_counter() - begin
    row("usearch, HNSW in float16", made, lambda vector: index.search(vector, CANDIDATES).keys.astype(np.int64))


def lance(windows: Windows, row, stores: list[str], work: Path) -> None:
    import lancedb

    folder = work / "stages"
    shutil.rmtree(folder, ignore_errors=True)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(windows.means.ravel()), WIDTH)
    table = lancedb.connect(folder).create_table("t", pa.table({"n": np.arange(windows.count), "vector": vectors}))

    def search(**options) -> Callable[[np.ndarray], np.ndarray]:
        def first_stage(vector: np.ndarray) -> np.ndarray:
            query = table.search(vector).distance_type("dot")  # pyright: ignore[reportAttributeAccessIssue] (of vectors)
            query = query.select(["n", "_distance"]).limit(CANDIDATES)
            for name, value in options.items():
                query = getattr(query, name)(value)
            return query.to_arrow()["n"].to_numpy()

        return first_stage

    if "lance-flat" in stores:
        row("LanceDB, flat", 0, search())
    if "lance-hnsw" in stores:
        begin = time.perf_counter()
        parts = max(1, windows.count // 50_000)
        table.create_index("dot", vector_column_name="vector", index_type="IVF_HNSW_FLAT", num_partitions=parts)
        row("LanceDB, IvfHnswFlat", time.perf_counter() - begin, search(nprobes=20, ef=2 * CANDIDATES))
    shutil.rmtree(folder)


def timed(do: Callable[[], object]) -> float:
    begin = time.perf_counter()
    do()
    return time.perf_counter() - begin


# ---------------------------------------------------------------- the whole product


class Wide(Embedder):
    """The model, its vectors turned into the width of the papers'."""

    def __init__(self, embedder: Embedder):
        super().__init__(embedder.model, embedder.name)
        self.turn = widened(embedder.size)
        self.size, self.frames = WIDTH, FRAMES

    def texts(self, texts):
        return super().texts(texts) @ self.turn


def make_store(windows: Windows, folder: Path) -> None:
    """An index of many windows, a hundred to a file, each with a line of speech."""
    if (folder / "whole").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    embedder, senses = Wide(windows.library.embedder), len(windows.library.store.about.senses)
    store = Store.create(str(folder), embedder, Cut(12.0, 6.0))
    said = [*windows.library.store.segments.to_arrow()["text"].to_pylist(), "nothing"]
    store.about.roots = {"videos": str(folder)}
    for first in range(0, windows.count, BATCH):
        numbers = np.arange(first, min(first + BATCH, windows.count))
        frames, mask = windows.frames(numbers), windows.mask(numbers)
        rows, lines = [], []
        for place, number in enumerate(numbers.tolist()):
            content, at = f"content {number // OF_A_FILE}", number % OF_A_FILE
            times = (6.0 * at + np.arange(int(mask[place].sum()))).astype(np.float32)
            line, part = said[number % len(said)], (frames[place] / senses).astype(np.float16)
            rows.append(
                {"content": content, "number": at, "start": 6.0 * at, "end": 6.0 * at + 12, "times": times,
                 "mean": windows.means[number], "frames": frames[place].tobytes(), "terms": part.tobytes() * senses,
                 "words": line, "picture": b""}
            )  # fmt: skip
            lines.append({"content": content, "number": at, "start": 6.0 * at, "end": 6.0 * at + 3, "text": line})
        store.windows.add(pa.Table.from_pylist(rows, window_schema(WIDTH)))
        store.segments.add(pa.Table.from_pylist(with_words(lines), segment_schema()))
    bare = {"root": "videos", "state": READY, "reason": "", "notes": [], "language": "en", "source": "made"}
    bare |= {
        "size": 0,
        "modified": 0,
        "lines": "",
        "mounted": False,
        "unread": 0,
        "windows": OF_A_FILE,
        "duration": 606.0,
    }
    store.put_files(
        [
            bare | {"file": f"videos/{k}.mp4", "path": f"{k}.mp4", "content": f"content {k}", "sample": str(k)}
            for k in range((windows.count + OF_A_FILE - 1) // OF_A_FILE)
        ]
    )
    words.index(store)
    for table in store.tables:
        table.optimize()
    store.save()
    (folder / "whole").touch()


def open_wide(folder: Path, model: str) -> Library:
    from save_jax.search.models import open_embedder

    return Library(Store.open(str(folder)), Wide(open_embedder(model)))


def product(folder: Path, model: str, texts: list[str]) -> None:
    """Warm and cold questions, and fifty at once."""
    library = open_wide(folder, model)
    library.search(texts[0])
    warm = [timed(lambda text=text: library.search(text)) for text in texts]
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        begin = time.perf_counter()
        together = list(pool.map(lambda text: timed(lambda: library.search(text)), [*texts, *texts]))
        rate = 2 * len(texts) / (time.perf_counter() - begin)
    print(f"{len(library.view)} windows in {size_of(str(folder)) / 1e9:.2f} GB: p50 | p95 = {percentiles(warm)} ms")
    print(f"{CLIENTS} clients: p50 | p95 = {percentiles(together)} ms, {rate:.1f} questions a second; {memory()}")
    for name in TABLES:
        subprocess.run([sys.executable, "-c", FORGET, str(folder / f"{name}.lance")], check=True)
    for what in ("files not in memory", "files in memory"):
        arguments = [sys.executable, __file__, "--cold", str(folder), "--model", model, "--question", texts[0]]
        print(
            f"a new process, {what}:",
            subprocess.run(arguments, check=True, capture_output=True, text=True).stdout.strip(),
        )


FORGET = """
import os, sys
for directory, _, names in os.walk(sys.argv[1]):
    for name in names:
        with open(os.path.join(directory, name), "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
"""


def cold(folder: Path, model: str, question: str) -> None:
    begin = time.perf_counter()
    library = open_wide(folder, model)
    opened = time.perf_counter()
    library.view  # noqa: B018
    viewed = time.perf_counter()
    library.search(question)
    first = time.perf_counter()
    library.search(question)
    print(
        f"model {opened - begin:.2f} s, index {viewed - opened:.2f} s, first question {first - viewed:.2f} s, "
        f"second {time.perf_counter() - first:.3f} s"
    )


# ---------------------------------------------------------------- proof


def proof(windows: Windows, vectors: np.ndarray) -> None:
    """How many windows could still beat the tenth hit, by what their mean and the spread of their frames allow.

    A query's cosine with a frame is at most that with the mean, and the largest distance of a frame from it; with the
    frames' shares along a few principal directions kept, only the rest of the distance is a guess.
    """
    scale = float(np.exp(windows.library.embedder.model.params["logit_scale"]))
    numbers = np.arange(min(windows.count, 20_000))
    frames, there = windows.frames(numbers).astype(np.float32), windows.mask(numbers)
    frames /= np.maximum(np.linalg.norm(frames, axis=-1, keepdims=True), 1e-12)
    means = np.where(there[..., None], frames, 0).sum(axis=1)
    means /= np.maximum(np.linalg.norm(means, axis=-1, keepdims=True), 1e-12)
    off = np.where(there[..., None], frames - means[:, None], 0)
    full = windows.scores(vectors)[: len(numbers)]
    tenth = np.sort(full, axis=0)[-10]
    count = np.log(there.sum(axis=1))[:, None]
    print(f"mean distance of the farthest frame: {np.linalg.norm(off, axis=-1).max(axis=1).mean():.3f}\n")
    print(
        f"| directions kept | values kept of a window | windows left, median | proved with {CANDIDATES} |\n"
        + "|---" * 4
        + "|"
    )
    sample = off[there][:: max(1, int(there.sum()) // 20_000)]
    _, _, axes = np.linalg.svd(sample, full_matrices=False)
    for kept in (0, 4, 16, 64):
        along = axes[:kept]
        shares = off @ along.T  # [n, t, kept]
        rest = np.linalg.norm(off - shares @ along, axis=-1).max(axis=1)[:, None]
        inside = vectors @ along.T
        beyond = np.sqrt(np.maximum(0, 1 - (inside**2).sum(axis=1)))
        known = np.where(there[..., None], shares @ inside.T, -np.inf).max(axis=1) if kept else 0.0
        whole = means @ vectors.T
        bound = 0.5 * (2 * scale * whole + scale * (known + rest * beyond) + count)
        assert (bound >= full - 1e-3 * scale).all()
        left = (bound >= tenth).sum(axis=0)
        values = 1 + kept * FRAMES
        proved = 100 * np.mean(left <= CANDIDATES)
        print(f"| {kept} | {values} | {np.median(left):.0f} of {len(numbers)} | {proved:.0f} % |")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--library")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--windows", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--texts", help="a file of queries, one a line")
    parser.add_argument("--parts", default="stages,product,proof")
    parser.add_argument("--stores", default="", help="usearch, lance-flat, lance-hnsw: beside NumPy")
    parser.add_argument("--candidates", default="32,64,128,256,512", help="of NumPy's first stage, a row each")
    parser.add_argument("--cold", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--model", help=argparse.SUPPRESS)
    parser.add_argument("--question", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.cold:
        return cold(args.cold, args.model, args.question)
    library = open_library(args.library)
    windows = Windows(library, args.windows)
    texts = [line.strip() for line in Path(args.texts).read_text(encoding="utf-8").splitlines() if line.strip()]
    texts = texts[: args.queries]
    vectors = library.embedder.texts(texts) @ windows.turn
    for part in args.parts.split(","):
        print(f"\n## {part}, {args.windows} windows\n")
        if part == "stages":
            stages(windows, vectors, args.stores.split(","), [*map(int, args.candidates.split(","))], args.work)
        elif part == "product":
            make_store(windows, args.work / f"store-{args.windows}")
            product(args.work / f"store-{args.windows}", library.store.about.model, texts)
        elif part == "proof":
            proof(windows, vectors)
        else:
            sys.exit(f"no part {part!r}")


if __name__ == "__main__":
    main()
