"""Scores from files: matrices, rows of (query, video, score), or embeddings of both sides.

| suffix | what it holds |
|---|---|
| .npy | a matrix [queries, videos]; read in pieces, so it may be larger than the memory |
| .npz | `scores`, and names `queries` and `videos` where it has them; or embeddings `texts` and `videos` |
| .pt, .pth | one tensor, or `scores` among several; nothing but tensors is read |
| .csv, .tsv | long: columns query, video, score. Wide: the first line names videos, the first column queries |
| .parquet | columns query, video, score |
"""

import collections
import csv
import dataclasses
import itertools
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from save_jax.judge.metrics import Scores

LONG = ("query", "video", "score")
# What NumPy, csv and the readers of archives raise for files that are damaged, or none of theirs.
_UNREADABLE = (
    *(OSError, EOFError, KeyError, TypeError, AttributeError, NotImplementedError),
    *(csv.Error, zipfile.BadZipFile, zlib.error),
)
SUFFIXES = (".npy", ".npz", ".pt", ".pth", ".csv", ".tsv", ".parquet")


@dataclasses.dataclass(frozen=True)
class Product:
    """Cosines of two sides' embeddings, as a matrix of which rows are made when they are read."""

    texts: np.ndarray  # float32 [queries, d], unit vectors
    videos: np.ndarray  # float32 [videos, d], unit vectors
    dtype: np.dtype = dataclasses.field(default=np.dtype(np.float32), init=False)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.texts), len(self.videos)

    def __getitem__(self, rows: Any, /) -> np.ndarray:
        return self.texts[rows] @ self.videos.T


@dataclasses.dataclass(frozen=True)
class Reordered:
    """A matrix with its rows and columns in another order, of which rows are made when they are read."""

    scores: Scores
    rows: np.ndarray  # int [queries]: which row of `scores` each is
    columns: np.ndarray  # int [videos]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.scores.shape

    @property
    def dtype(self) -> np.dtype:
        return self.scores.dtype

    def __getitem__(self, rows: Any, /) -> np.ndarray:
        return np.asarray(self.scores[self.rows[rows]])[:, self.columns]


@dataclasses.dataclass(frozen=True)
class Task:
    """What is asked, in the order of a matrix's rows and columns."""

    caption_to_video: np.ndarray  # int [queries]
    texts: Sequence[str] = ()  # of the queries; () where not known
    groups: Sequence[str] = ()  # of the queries; () where there are none
    corpus: str = ""  # a key of protocols.PROTOCOLS; "" where not known
    split: str = "test"
    failed: Sequence[str] = ()  # ids of videos that could not be decoded
    picked_on: str = ""  # the split that picked the checkpoint; "" where not known


@dataclasses.dataclass(frozen=True)
class Given:
    """What a file gave. Names are () where it has none."""

    scores: Scores
    queries: Sequence[str] = ()
    videos: Sequence[str] = ()
    task: Task | None = None  # of a run's own file, or of lists


def product(texts: np.ndarray, videos: np.ndarray) -> Product:
    """Cosine scores of embeddings [queries, d] and [videos, d].

    Raises ValueError for other shapes, and for vectors without a direction: zeros, NaN or infinite.
    """
    sides = []
    for what, side in (("texts", np.asarray(texts)), ("videos", np.asarray(videos))):
        if side.ndim != 2 or not side.size:
            raise ValueError(f"embeddings of {what} have shape {list(side.shape)}, not [{what}, width]")
        side = side.astype(np.float32)
        norm = np.linalg.norm(side, axis=1, keepdims=True)
        if (bad := np.flatnonzero(~(norm[:, 0] > 0) | ~np.isfinite(norm[:, 0]))).size:
            raise ValueError(
                f"{len(bad)} of {len(side)} embeddings of {what} are zero, NaN or infinite, the first is number "
                f"{bad[0]}; they have no direction, so no score"
            )
        sides.append(side / norm)
    if sides[0].shape[1] != sides[1].shape[1]:
        raise ValueError(
            f"embeddings of texts are {sides[0].shape[1]} wide, of videos {sides[1].shape[1]}; give those of one model"
        )
    return Product(*sides)


def read(path: str) -> Given:
    """The scores of a file, by its suffix; a folder means the scores.npz in it, as every run has.

    Raises ValueError that names the file: another suffix, nothing or too much in it, names twice, pairs that are
    missing or come twice, text in the place of a number.
    """
    if os.path.isdir(path):
        path = os.path.join(path, "scores.npz")
        if not os.path.exists(path):
            raise ValueError(f"there is no {path}; save-jax eval writes it into a run's folder")
    suffix = os.path.splitext(path)[1].lower()
    readers = {".npy": _npy, ".npz": _npz, ".pt": _pt, ".pth": _pt, ".csv": _csv, ".tsv": _csv, ".parquet": _parquet}
    if not os.path.exists(path):
        raise ValueError(f"there is no {path}")
    if suffix not in readers:
        raise ValueError(f"{path} has suffix {suffix!r}; scores are read from {', '.join(SUFFIXES)}, or a run's folder")
    try:
        given = readers[suffix](path)
    except _UNREADABLE as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    except MemoryError as error:
        raise ValueError(
            f"{path} does not fit into the memory ({error}); a .npy file of any size is read in rows"
        ) from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    shape = given.scores.shape
    if len(shape) != 2 or not np.prod(shape):
        raise ValueError(f"{path} holds scores of shape {list(shape)}, not [queries, videos]")
    for what, names, count in (("queries", given.queries, shape[0]), ("videos", given.videos, shape[1])):
        if len(names) not in (0, count):
            raise ValueError(f"{path} names {len(names)} {what} for scores of {list(shape)}")
        check_different(f"{path}: {what}", names)
    return given


def check_different(what: str, names: Sequence[str]) -> None:
    """Raises ValueError where a name comes twice."""
    if len(set(names)) < len(names):
        seen: set[str] = set()
        first = next(name for name in names if name in seen or seen.add(name))
        raise ValueError(f"{what}: {len(names) - len(set(names))} ids come more than once, such as {first!r}")


def _npy(path: str) -> Given:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise ValueError("it holds several arrays; name it .npz")
    return Given(array)


def _npz(path: str) -> Given:
    loaded = np.load(path, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        raise ValueError("it holds one array; name it .npy")
    with loaded as file:
        names = set(file.files)

        def words(name: str) -> Sequence[str]:
            return [str(x) for x in file[name]] if name in names else ()

        if "scores" in names:
            task = None
            if "caption_to_video" in names:
                about = {name: str(file[name]) for name in ("corpus", "split", "picked_on") if name in names}
                lists = {name: words(name) for name in ("texts", "groups", "failed")}
                task = Task(file["caption_to_video"], **lists, **about)
            return Given(file["scores"], words("queries"), words("videos"), task)
        if names >= {"texts", "videos"} and file["videos"].ndim == 2:
            return Given(product(file["texts"], file["videos"]))
    raise ValueError(
        f"it holds {', '.join(sorted(names)) or 'nothing'}; needed is `scores` [queries, videos], or embeddings "
        "`texts` and `videos`"
    )


def _pt(path: str) -> Given:
    tensors = _tensors(path)
    if len(tensors) != 1 and "scores" not in tensors:
        raise ValueError(f"it holds {len(tensors)} tensors ({', '.join(list(tensors)[:5])}), and none named scores")
    scores = tensors["scores"] if "scores" in tensors else next(iter(tensors.values()))
    kept = scores.dtype in (np.float64, np.float32, np.float16)
    wider = np.float32 if scores.dtype.name == "bfloat16" else np.float64
    return Given(scores if kept else scores.astype(wider))


def _tensors(path: str) -> Mapping[str, np.ndarray]:
    try:
        from save_jax.weights import torch_files
    except ImportError as error:
        raise ValueError(f"tensors need {error.name}: pip install {error.name}, or write .npy") from None
    try:
        return torch_files.read(path)
    except zipfile.BadZipFile:
        raise ValueError("it is no zip archive, as torch.save writes since torch 1.6; save it again") from None


def array(path: str) -> np.ndarray:
    """The one array of a file of embeddings: .npy, or .pt with one tensor. Raises ValueError that names the file."""
    try:
        if path.lower().endswith((".pt", ".pth")):
            tensors = list(_tensors(path).values())
            if len(tensors) != 1:
                raise ValueError(f"it holds {len(tensors)} tensors, and needed is one")
            return tensors[0].astype(np.float32)
        loaded = np.load(path, allow_pickle=False)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    if not isinstance(loaded, np.ndarray):
        raise ValueError(f"{path} holds several arrays; give a .npy file of one")
    return loaded


def _csv(path: str) -> Given:
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = csv.reader(file, delimiter="\t" if path.lower().endswith(".tsv") else ",")
        header = [name.strip() for name in next(rows, [])]
        lowered = [name.lower() for name in header]
        if not header:
            raise ValueError("it is empty")
        if set(LONG) <= set(lowered):
            at = [lowered.index(name) for name in LONG]
            return _from_pairs(
                (row[at[0]], row[at[1]], _number(row[at[2]], line)) for line, row in _lines(rows, len(header))
            )
        if header == [str(number) for number in range(len(header))]:
            raise ValueError(
                "its first line is 0, 1, 2, …, which pandas writes above a matrix; write header=False, or names"
            )
        if _is_number(header[0]):  # no names at all
            bare = [(1, header), *_lines(rows, len(header))]
            return Given(np.array([[_number(cell, line) for cell in row] for line, row in bare]))
        names, lines = [], []
        for line, row in _lines(rows, len(header)):
            names.append(row[0])
            lines.append(np.array([_number(cell, line) for cell in row[1:]]))
        return Given(np.array(lines), names, header[1:])


def _lines(rows: Iterable[list[str]], width: int) -> Iterator[tuple[int, list[str]]]:
    """(number, cells) of every line that is not empty."""
    for line, row in enumerate(rows, 2):
        if row:
            if len(row) != width:
                raise ValueError(f"line {line} has {len(row)} cells, the first line {width}")
            yield line, row


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _number(cell: str, line: int) -> float:
    try:
        return float(cell)
    except ValueError:
        raise ValueError(f"line {line} has {cell!r} in the place of a score") from None


def _from_pairs(pairs: Iterable[tuple[str, str, float]]) -> Given:
    """A matrix of rows (query, video, score), every pair once."""
    queries: dict[str, int] = {}
    videos: dict[str, int] = {}
    at: tuple[list[int], list[int], list[float]] = ([], [], [])
    for query, video, score in pairs:
        at[0].append(queries.setdefault(query, len(queries)))
        at[1].append(videos.setdefault(video, len(videos)))
        at[2].append(score)
    return _filled(list(queries), list(videos), np.array(at[0]), np.array(at[1]), np.array(at[2]))


def _filled(queries: list[str], videos: list[str], row: np.ndarray, column: np.ndarray, score: np.ndarray) -> Given:
    if not len(score):
        raise ValueError("it has no rows")
    if len(score) < len(queries) * len(videos):  # a matrix of few pairs of many names may not fit into the memory
        raise ValueError(
            f"{len(queries) * len(videos) - len(score):,} of {len(queries) * len(videos):,} pairs are missing, of "
            f"{len(queries):,} queries and {len(videos):,} videos; every query needs one score for every video"
        )
    count = np.bincount(row * len(videos) + column, minlength=len(queries) * len(videos))
    if (count != 1).any():  # so some pair comes twice
        query, video = divmod(int((count > 1).argmax()), len(videos))
        raise ValueError(
            f"{(count > 1).sum():,} of {count.size:,} pairs come more than once, the first is query {queries[query]!r} "
            f"with video {videos[video]!r}; every query needs one score for every video of the gallery"
        )
    scores = np.empty((len(queries), len(videos)), score.dtype)
    scores[row, column] = score
    return Given(scores, queries, videos)


def _parquet(path: str) -> Given:
    try:
        import pyarrow.parquet
    except ImportError:
        raise ValueError("Parquet needs pyarrow: pip install pyarrow, or write .npz or .csv") from None
    if missing := set(LONG) - set(pyarrow.parquet.read_schema(path).names):
        raise ValueError(f"it has no column {', '.join(sorted(missing))}; needed are {', '.join(LONG)}")
    file = pyarrow.parquet.ParquetFile(path, read_dictionary=["query", "video"])
    codes: tuple[dict[str, int], dict[str, int]] = ({}, {})
    parts: tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]] = ([], [], [])
    for batch in file.iter_batches(columns=list(LONG), batch_size=1 << 20):
        for side, name in enumerate(LONG[:2]):
            column = batch.column(name).dictionary_encode()
            here = [codes[side].setdefault(str(x), len(codes[side])) for x in column.dictionary.to_pylist()]
            if column.null_count:
                raise ValueError(f"column {name} has {column.null_count} empty cells")
            parts[side].append(np.array(here, np.int32)[column.indices.to_numpy()])
        parts[2].append(batch.column("score").to_numpy(zero_copy_only=False))
    row, column, score = (np.concatenate(part) if part else np.zeros(0, np.int32) for part in parts)
    return _filled(list(codes[0]), list(codes[1]), row.astype(np.int64), column, score)


def save(path: str, scores: np.ndarray, videos: Sequence[str], task: Task) -> None:
    """Writes scores with what was asked, as `read` reads them (.npz). Queries are named VIDEO#NUMBER."""
    seen: collections.Counter[int] = collections.Counter()
    names = []
    for video in task.caption_to_video:
        names.append(f"{videos[video]}#{seen[int(video)]}")
        seen[int(video)] += 1
    words = {"queries": names, "videos": videos, "texts": task.texts, "groups": task.groups, "failed": task.failed}
    about = {"corpus": np.array(task.corpus), "split": np.array(task.split), "picked_on": np.array(task.picked_on)}
    arrays: dict[str, Any] = {name: np.array(given, np.str_) for name, given in words.items()} | about
    with open(f"{path}.tmp", "wb") as file:
        np.savez(file, scores=scores, caption_to_video=task.caption_to_video, **arrays)
    os.replace(f"{path}.tmp", path)


def first_few(names: Iterable[str]) -> str:
    """Up to three names, for a message."""
    return ", ".join(repr(name) for name in itertools.islice(names, 3))
