"""All windows of an index against one query: their mean vectors first, then the score of the best ones' frames.

The means (float32, 205 MB for 100,000 windows of 512) are kept in a file that is derived from the windows' table and
mapped into memory, so that a second process starts at once and shares it.
"""

import contextlib
import dataclasses
import functools
import os
from typing import Any

import numpy as np

from save_jax.search.store import READY, Store

_FOLDER = "ranking"


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

    def of_files(self, wanted) -> np.ndarray:
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
    with contextlib.suppress(OSError, ValueError):
        mapped = np.load(path, mmap_mode="r")
        if mapped.shape == (count, size):
            return mapped
    means = np.zeros((count, size), np.float32)
    at = 0
    for batch in table.search().select(["mean"]).limit(None).to_batches():
        values = batch["mean"].flatten().to_numpy().reshape(-1, size)
        means[at : at + len(values)] = values
        at += len(values)
    with contextlib.suppress(OSError):  # a folder that cannot be written
        os.makedirs(folder, exist_ok=True)
        temporary = f"{path}.{os.getpid()}.tmp.npy"
        np.save(temporary, means)
        os.replace(temporary, path)
        for name in os.listdir(folder):
            if name != os.path.basename(path) and not name.endswith(".tmp.npy"):
                os.unlink(os.path.join(folder, name))
    return means


def best(means: np.ndarray, query: np.ndarray, count: int, allowed: np.ndarray | None = None) -> np.ndarray:
    """Numbers of the `count` windows whose mean is nearest to the query, nearest first; of those allowed.

    Args:
        means: float32 [n, d].
        query: float32 [d].
        allowed: bool [n].
    """
    scores = means @ query
    if allowed is not None:
        scores = np.where(allowed, scores, -np.inf)
        count = min(count, int(allowed.sum()))
    count = min(count, len(scores))
    if not count:
        return np.zeros(0, np.int64)
    first = np.argpartition(-scores, count - 1)[:count]
    return first[np.lexsort((first, -scores[first]))]
