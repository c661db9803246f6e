"""Stored outputs of frozen towers. They are read row by row instead of the pictures, sounds and texts of a batch.

They are in a folder beside the shards. Its meta.json names their parameters, shards and settings. SPLIT-FIELD.bf16
holds the rows of one field, all of the same size, so that each row is read directly into its place in the batch.
`training.tower_cache` writes such folders.
"""

import json
import os
from collections.abc import Mapping, Sequence
from typing import BinaryIO

import ml_dtypes
import numpy as np

FORMAT = 2  # of the folder; in format 1 padded frames were black instead of zero after normalisation
META = "meta.json"
ITEMS = {"ast": "clips", "visual": "clips", "speech": "clips", "text": "captions"}  # what a field has a row for
DTYPE = np.dtype(ml_dtypes.bfloat16)


class Stored:
    """`stored.read("train", "clips", [3, 0])` → {"ast": bfloat16 [2, m, w], …}. Pickles without its open files."""

    def __init__(self, directory: str, fields: Sequence[str], splits: Mapping[str, Mapping[str, int]]):
        """Opens a folder that `tower_cache.open_checked` has checked.

        Args:
            fields: to be read, of `ITEMS`.
            splits: {split: {"clips": how many, "captions": how many}}.
        Raises:
            ValueError if a split, a field or a part of a file is missing.
        """
        self.directory = directory
        self._stored = read_meta(directory)["splits"]
        self._fields, self._rows, self._files = tuple(fields), {}, {}
        for split, counts in splits.items():
            for field in fields:
                described = self._stored.get(split, {}).get(field)
                path = self._path(split, field)
                if described is None or not os.path.exists(path):
                    raise ValueError(f"{directory} has no {field} of split {split!r}; run --mode=cache again")
                need, size = described["rows"] * _row_bytes(described["shape"]), os.path.getsize(path)
                if size != need:
                    raise ValueError(f"{path} has {size} bytes, not {need}; delete its folder and run --mode=cache")
                rows = np.load(rows_path(path)) if described["shared"] else np.arange(described["rows"])
                if len(rows) != counts[ITEMS[field]]:
                    raise ValueError(
                        f"{directory} has {field} for {len(rows)} {ITEMS[field]} of split {split!r}, the shards have "
                        f"{counts[ITEMS[field]]}; run --mode=cache again"
                    )
                self._rows[split, field] = rows

    def fields(self, split: str) -> tuple[str, ...]:
        """Names of the fields that are read of a split."""
        return tuple(field for field in self._fields if (split, field) in self._rows)

    def read(self, split: str, items: str, numbers: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
        """bfloat16 [n, …] of these clips or captions (`items`) of a split, by field."""
        return {field: self._read(split, field, numbers) for field in self.fields(split) if ITEMS[field] == items}

    def _read(self, split: str, field: str, numbers: Sequence[int] | np.ndarray) -> np.ndarray:
        path, shape = self._path(split, field), self._stored[split][field]["shape"]
        if path not in self._files:
            opened = os.open(path, os.O_RDONLY)
            if self._files.setdefault(path, opened) != opened:  # another thread was faster
                os.close(opened)
        size = _row_bytes(shape)
        out = np.empty((len(numbers), size), np.uint8)
        for row, number in zip(out, numbers, strict=True):
            if os.preadv(self._files[path], [row.data], int(self._rows[split, field][number]) * size) != size:
                raise ValueError(f"{path} ends within row {number}; delete its folder and run --mode=cache")
        return out.view(DTYPE).reshape(len(numbers), *shape)

    def _path(self, split: str, field: str) -> str:
        return rows_file(self.directory, split, field)

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_files": {}}

    def __del__(self, close=os.close):  # bound here: at the end of a process `os` may be gone before this
        for file in getattr(self, "_files", {}).values():
            close(file)


class Writer:
    """Appends the rows of one field of one split. Rows that are known to be equal are stored once."""

    def __init__(self, directory: str, split: str, field: str):
        self._path = rows_file(directory, split, field)
        self._file: BinaryIO = open(self._path, "wb")  # noqa: SIM115 (row by row, until `close`)
        self._rows: list[int] = []
        self._count, self._same, self._shape = 0, None, None

    def add(self, row: np.ndarray, same: bool = False) -> None:
        """The row of the next item. Of all rows that are the `same`, only the first is stored."""
        if same and self._same is not None:
            self._rows.append(self._same)
            return
        if same:
            self._same = self._count
        self._file.write(np.ascontiguousarray(row, DTYPE).tobytes())
        self._rows.append(self._count)
        self._count, self._shape = self._count + 1, row.shape

    def close(self) -> dict:
        """Writes everything to the disk. Returns the description for meta.json."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        shared = self._same is not None
        if shared:
            np.save(rows_path(self._path), np.array(self._rows, np.int32))
        return {"rows": self._count, "shape": list(self._shape or ()), "shared": shared}


def rows_file(directory: str, split: str, field: str) -> str:
    return os.path.join(directory, f"{split}-{field}.bf16")


def rows_path(path: str) -> str:
    """Path of the row of each item, int32 [items]. The file exists if several items share a row."""
    return path.removesuffix(".bf16") + "-rows.npy"


def _row_bytes(shape: Sequence[int]) -> int:
    return int(np.prod(shape)) * DTYPE.itemsize


def read_meta(directory: str) -> dict:
    """meta.json of a finished folder. Raises ValueError if there is none, or if it has another format."""
    try:
        with open(os.path.join(directory, META), encoding="utf-8") as file:
            meta = json.load(file)
    except (OSError, ValueError) as error:
        raise ValueError(f"{directory} is no finished cache ({error}); run --mode=cache") from error
    if meta.get("format") != FORMAT:
        raise ValueError(f"{directory} has format {meta.get('format')}, not {FORMAT}; run --mode=cache again")
    return meta
