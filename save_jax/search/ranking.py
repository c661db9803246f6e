"""All windows of an index against one query: their mean vectors first, then the score of the best ones' frames.

The means (float32, 205 MB for 100,000 windows of 512) are kept in a file that is derived from the windows' table and
mapped into memory, so that a second process starts at once and shares it.
"""

import contextlib
import dataclasses
import functools
import os
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from save_jax.search.store import READY, Store

_FOLDER, _PARTIAL = "ranking", ".tmp"
_ONE_PRODUCT = threading.Lock()  # it takes all cores: two at once took up to five times as long as in turn
_ABANDONED = 3600.0  # seconds after which a half-written file is a killed process's


@dataclasses.dataclass(frozen=True)
class View:
    """One version of an index: arrays over its windows, and its files."""

    version: tuple[int, int, int]
    table: Any  # of windows, in that version
    means: np.ndarray  # float32 [n, d], unit
    contents: np.ndarray  # int32 [n], which of `names`
    names: list[str]  # contents
    starts: np.ndarray  # float32 [n]
    ends: np.ndarray
    files: dict[str, list[dict]]  # content → its files that were read, none for windows that nobody names

    def __len__(self) -> int:
        return len(self.means)

    def windows_of(self, content: str) -> np.ndarray:
        """Numbers of its windows, in the order of their rows; none for a content that is not here."""
        by_name, order, first = self._by_content
        name = by_name.get(content)
        return order[first[name] : first[name + 1]] if name is not None else order[:0]

    @functools.cached_property
    def _by_content(self) -> tuple[dict[str, int], np.ndarray, np.ndarray]:
        order = np.argsort(self.contents, kind="stable")
        first = np.searchsorted(self.contents[order], np.arange(len(self.names) + 1))
        return {name: number for number, name in enumerate(self.names)}, order, first

    @functools.cached_property
    def named(self) -> np.ndarray:
        """bool [n]: windows that a file names."""
        return self.of_files(lambda row: True)

    def of_files(self, wanted: Callable[[dict], bool]) -> np.ndarray:
        """bool [n]: windows of a content of which `wanted(row)` holds for a file."""
        chosen = np.array([any(map(wanted, self.files.get(name, ()))) for name in self.names], bool)
        return chosen[self.contents] if len(self) else np.zeros(0, bool)


def view(store: Store) -> View:
    """The index as it is now."""
    return store.reading(lambda: _view(store))


def _view(store: Store) -> View:
    version = store.refresh()
    table = store.windows_at(version[1])
    rows = table.search().select(["content", "start", "end"]).limit(None).to_arrow()
    encoded = rows["content"].combine_chunks().dictionary_encode() if len(rows) else None
    names = encoded.dictionary.to_pylist() if encoded is not None else []
    files: dict[str, list[dict]] = {}
    for row in store.files.to_arrow().to_pylist():
        if row["state"] == READY:
            files.setdefault(row["content"], []).append(row)
    return View(
        version=version,
        table=table,
        means=_means(store, table, version[1], len(rows)),
        contents=encoded.indices.to_numpy() if encoded is not None else np.zeros(0, np.int32),
        names=names,
        starts=rows["start"].to_numpy(),
        ends=rows["end"].to_numpy(),
        files=files,
    )


def _means(store: Store, table: Any, version: int, count: int) -> np.ndarray:
    """float32 [count, d], mapped from the derived file; made where it is missing, in memory where it cannot be."""
    size = store.about.size
    folder = os.path.join(store.folder, _FOLDER)
    path = os.path.join(folder, f"means-{version}.npy")
    with contextlib.suppress(OSError, ValueError, EOFError):
        mapped = np.load(path, mmap_mode="r")
        if mapped.shape == (count, size) and _is_of(mapped, table):
            return mapped
    means = np.zeros((count, size), np.float32)
    at = 0
    for batch in table.search().select(["mean"]).limit(None).to_batches():
        values = batch["mean"].flatten().to_numpy().reshape(-1, size)
        means[at : at + len(values)] = values
        at += len(values)
    with contextlib.suppress(OSError):  # a folder that cannot be written
        _keep(means, path)
    return means


def _is_of(means: np.ndarray, table: Any) -> bool:
    """Whether the first, middle and last of them are the table's: a file that a power cut left may be empty inside."""
    if not len(means):
        return True
    places = sorted({0, len(means) // 2, len(means) - 1})
    there = table.take_offsets(places).select(["mean"]).to_arrow()["mean"].to_pylist()
    return all(np.array_equal(means[place], np.float32(mean)) for place, mean in zip(places, there, strict=True))


def _keep(means: np.ndarray, path: str) -> None:
    """Writes the derived file whole or not at all, in place of those of other versions. Raises OSError."""
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, suffix=_PARTIAL, delete=False) as file:
        try:
            np.save(file, means)
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            os.unlink(file.name)
            raise
    os.replace(file.name, path)
    old = time.time() - _ABANDONED
    for name in os.listdir(folder):
        other = os.path.join(folder, name)
        if other != path and (not name.endswith(_PARTIAL) or os.path.getmtime(other) < old):
            with contextlib.suppress(OSError):  # another process was first, or maps it
                os.unlink(other)


def best(means: np.ndarray, query: np.ndarray, count: int, allowed: np.ndarray | None = None) -> np.ndarray:
    """Numbers of the `count` windows whose mean is nearest to the query, nearest first; of those allowed.

    Args:
        means: float32 [n, d].
        query: float32 [d].
        allowed: bool [n].
    """
    with _ONE_PRODUCT:
        scores = means @ query
    if allowed is not None:
        scores = np.where(allowed, scores, -np.inf)
        count = min(count, int(allowed.sum()))
    count = min(count, len(scores))
    if not count:
        return np.zeros(0, np.int64)
    first = np.argpartition(-scores, count - 1)[:count]
    return first[np.lexsort((first, -scores[first]))]
