"""How good an index is for its owner: their own queries with the moments they meant."""

import csv
import dataclasses

import numpy as np

from save_jax.search.library import Library, Moment

IOU = 0.5
DEPTHS = (1, 5, 10)


@dataclasses.dataclass(frozen=True)
class Judged:
    """A query and what was meant."""

    query: str
    file: str
    start: float | None
    end: float | None


def read(path: str) -> list[Judged]:
    """A CSV with columns query and file, and start and end in seconds where a moment is meant.

    Raises ValueError that names the line.
    """
    rows = []
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        if not {"query", "file"} <= set(reader.fieldnames or ()):
            raise ValueError(f"{path} needs the columns query and file (and start, end); it has {reader.fieldnames}")
        for row in reader:
            if not row["query"] or not row["file"]:
                raise ValueError(f"{path}, line {reader.line_num}: query or file is empty")
            try:
                times = [float(row[name]) if row.get(name) else None for name in ("start", "end")]
            except ValueError as error:
                raise ValueError(f"{path}, line {reader.line_num}: {error}") from None
            rows.append(Judged(row["query"], row["file"], *times))
    if not rows:
        raise ValueError(f"{path} has no row")
    return rows


def overlap(hit: Moment, start: float, end: float) -> float:
    """Intersection over union, in time."""
    both = max(0.0, min(hit.end, end) - max(hit.start, start))
    return both / max(1e-9, max(hit.end, end) - min(hit.start, start))


def evaluate(library: Library, judged: list[Judged], **options) -> dict:
    """{"queries", "R@k", "IoU": share of right files among the first hits whose moment overlaps by half, "start": …}.

    Raises ValueError for files that the index does not know.
    """
    by_file = {row["file"]: content for content, rows in library.view.files.items() for row in rows}
    by_path = {library.path_of(row): c for c, rows in library.view.files.items() for row in rows}
    contents = by_path | by_file
    if missing := sorted({row.file for row in judged} - contents.keys()):
        raise ValueError(f"not in the index: {', '.join(missing[:5])}; files are named as `stats --files` lists them")
    ranks, overlaps, starts = [], [], []
    for row in judged:
        hits = library.search(row.query, max(DEPTHS), **options).hits
        same = [by_file.get(hit.name) == contents[row.file] for hit in hits]  # a copy is as good
        right = [number for number, hit in enumerate(hits) if same[number] and _meets(row, hit)]
        ranks.append(right[0] if right else np.inf)
        if row.start is not None and row.end is not None and any(same[:1]):
            overlaps.append(overlap(hits[0], row.start, row.end))
            starts.append(abs(hits[0].start - row.start))
    found = np.array(ranks)
    result: dict = {"queries": len(judged)} | {f"R@{k}": 100 * float(np.mean(found < k)) for k in DEPTHS}
    if overlaps:
        result |= {"IoU≥0.5": 100 * float(np.mean(np.array(overlaps) >= IOU)), "start": float(np.median(starts))}
    return result


def _meets(row: Judged, hit: Moment) -> bool:
    """Where a moment was meant: whether it overlaps that."""
    return row.start is None or row.end is None or overlap(hit, row.start, row.end) > 0
