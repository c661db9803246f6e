"""Stored outputs of frozen towers, read row by row in place of the pictures, sounds and texts they were made from.

A folder beside the shards: meta.json says of which parameters, shards and settings they are; SPLIT-FIELD.bf16 holds the
rows of one field, all of one size, one after the other: a row is one read, into its place in the batch. `training.tower_cache` writes
such folders.
"""

import json
import os
from collections.abc import Mapping, Sequence
from typing import BinaryIO

import ml_dtypes
import numpy as np

FORMAT = 1  # of the folder
META = "meta.json"
ITEMS = {"ast": "clips", "visual": "clips", "speech": "clips", "text": "captions"}  # what a field has a row for
DTYPE = np.dtype(ml_dtypes.bfloat16)


class Stored:
    """`stored.read("train", "clips", [3, 0])` → {"ast": bfloat16 [2, m, w], …}. Pickles without its open files."""

    def __init__(self, directory: str, fields: Sequence[str], splits: Mapping[str, Mapping[str, int]]):
        """Opens what `tower_cache.open_checked` found to fit.

        Args:
            fields: to be read, of `ITEMS`.
            splits: {split: {"clips": how many, "captions": how many}}.
        Raises:
            ValueError where a split, a field or a part of a file is missing.
        """
        self.directory = directory
        self._stored = read_meta(directory)["splits"]
        self._fields, self._rows, self._files = tuple(fields), {}, {}
        for split, counts in splits.items():
            for field in fields:
                found = self._stored.get(split, {}).get(field)
                path = self._path(split, field)
                if found is None or not os.path.exists(path):
                    raise ValueError(f"{directory} has no {field} of split {split!r}; run --mode=cache again")
                need, size = found["rows"] * _row_bytes(found["shape"]), os.path.getsize(path)
                if size != need:
                    raise ValueError(f"{path} has {size} bytes, not {need}; delete its folder and run --mode=cache")
                rows = np.load(rows_path(path)) if found["shared"] else np.arange(found["rows"])
                if len(rows) != counts[ITEMS[field]]:
                    raise ValueError(
                        f"{directory} has {field} for {len(rows)} {ITEMS[field]} of split {split!r}, the shards have "
                        f"{counts[ITEMS[field]]}; run --mode=cache again"
                    )
                self._rows[split, field] = rows

    def fields(self, split: str) -> tuple[str, ...]:
        """Names of what is read of a split."""
        return tuple(field for field in self._fields if (split, field) in self._rows)

    def read(self, split: str, items: str, numbers: Sequence[int]) -> dict[str, np.ndarray]:
        """bfloat16 [n, …] of these clips or captions (`items`) of a split, by field."""
        return {field: self._read(split, field, numbers) for field in self.fields(split) if ITEMS[field] == items}

    def _read(self, split: str, field: str, numbers: Sequence[int]) -> np.ndarray:
        path, shape = self._path(split, field), self._stored[split][field]["shape"]
        if path not in self._files:
            opened = os.open(path, os.O_RDONLY)
            if self._files.setdefault(path, opened) != opened:  # another thread was faster
                os.close(opened)
        size = _row_bytes(shape)
        out = np.empty((len(numbers), size), np.uint8)
        for into, number in zip(out, numbers, strict=True):
            if os.preadv(self._files[path], [into], int(self._rows[split, field][number]) * size) != size:
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
    """Appends the rows of one field of one split. Rows that are known to be equal may be stored once."""

    def __init__(self, directory: str, split: str, field: str):
        self._path = rows_file(directory, split, field)
        self._file: BinaryIO = open(self._path, "wb")  # noqa: SIM115 (row by row, until `close`)
        self._rows: list[int] = []
        self._count, self._same, self._shape = 0, None, None

    def add(self, row: np.ndarray, same: bool = False) -> None:
        """The row of the next item; of all those that are the `same`, the first is kept."""
        if same and self._same is not None:
            self._rows.append(self._same)
            return
        if same:
            self._same = self._count
        self._file.write(np.ascontiguousarray(row, DTYPE).tobytes())
        self._rows.append(self._count)
        self._count, self._shape = self._count + 1, row.shape

    def close(self) -> dict:
        """What meta.json says of it. All is on the disk then."""
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
    """Beside rows of which several items share one: the row of each item, int32."""
    return path.removesuffix(".bf16") + "-rows.npy"


def _row_bytes(shape: Sequence[int]) -> int:
    return int(np.prod(shape)) * DTYPE.itemsize


def read_meta(directory: str) -> dict:
    """meta.json of a finished folder. Raises ValueError where there is none, or of another format."""
    try:
        with open(os.path.join(directory, META)) as file:
            meta = json.load(file)
    except (OSError, ValueError) as error:
        raise ValueError(f"{directory} is no finished cache ({error}); run --mode=cache") from error
    if meta.get("format") != FORMAT:
        raise ValueError(f"{directory} has format {meta.get('format')}, not {FORMAT}; run --mode=cache again")
    return meta
