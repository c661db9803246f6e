"""Lists of queries and of videos, as CSV: which text asks for which video, and what the gallery is.

Columns go by name, in any order; the official lists of MSR-VTT (key, video_id, sentence) are read as they are.
"""

import csv
import dataclasses
from collections.abc import Sequence

import numpy as np

from save_jax.judge.reading import Given, Task, check_different, first_few

# What a column means → its names. `vid_key` of MSR-VTT's list is another name of the video, and not its id.
COLUMNS = {
    "query": ("query", "query_id", "key", "id"),
    "video": ("video", "video_id"),
    "text": ("text", "sentence", "sentences", "caption", "query_text"),
    "group": ("group",),
}


def read(path: str, needed: Sequence[str]) -> dict[str, list[str]]:
    """Columns of a CSV (or .tsv) by their meaning, see `COLUMNS`; those it does not have are left out.

    Raises ValueError that names the file where a column is missing, a line is of another length, or there is none.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file, delimiter="\t" if path.lower().endswith(".tsv") else ",") if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} cannot be read as a CSV in UTF-8: {error}") from None
    if len(rows) < 2:
        raise ValueError(f"{path} has no lines below its header")
    header = [name.strip().lower() for name in rows[0]]
    at = {
        meaning: next(header.index(name) for name in names if name in header)
        for meaning, names in COLUMNS.items()
        if set(names) & set(header)
    }
    if missing := [meaning for meaning in needed if meaning not in at]:
        wanted = "; ".join(f"{meaning} ({' or '.join(COLUMNS[meaning])})" for meaning in missing)
        raise ValueError(
            f"{path} has columns {', '.join(rows[0])} in its first line, and none for {wanted}; name it there"
        )
    if other := [number for number, row in enumerate(rows, 1) if len(row) != len(header)]:
        raise ValueError(
            f"{path}: line {other[0]} has {len(rows[other[0] - 1])} cells, the header {len(header)}; a text with a "
            "comma needs quotes"
        )
    return {meaning: [row[place] for row in rows[1:]] for meaning, place in at.items()}


def named(given: Given, queries: str | None, videos: str | None, groups: str | None) -> Given:
    """Scores with what the lists say of their rows and columns: names, and the task where there are queries.

    Rows and columns with names are matched by name, and else by their order. Raises ValueError, with both sides,
    where a name is missing on either side, comes twice, or where numbers differ.
    """
    rows, columns = given.scores.shape
    ids = read(videos, ("video",))["video"] if videos else []
    check_different(f"{videos}: videos", ids)
    if not queries:
        if groups:
            raise ValueError("--groups needs --queries: groups are matched with queries by name")
        if not ids:
            return given
        order = _order(f"videos of {videos}", ids, "columns", given.videos, columns)
        return dataclasses.replace(given, videos=[ids[i] for i in order])
    asked = read(queries, ("video",))
    names = asked.get("query") or [str(number) for number in range(len(asked["video"]))]
    check_different(f"{queries}: queries", names)
    if given.queries and "query" not in asked:
        raise ValueError(f"{queries} has no column query, and the scores have names of queries; give it one")
    of_videos = set(ids or asked["video"])
    if given.queries and set(given.queries) != set(names) and set(given.queries) <= of_videos:
        raise ValueError("the rows have the names of videos: the matrix is transposed; pass --transposed")
    order = _order(f"queries of {queries}", names, "rows", given.queries, rows)
    right = [asked["video"][i] for i in order]
    gallery = list(given.videos) or ids
    if ids:
        gallery = [ids[i] for i in _order(f"videos of {videos}", ids, "columns", given.videos, columns)]
    elif not gallery:
        gallery = list(dict.fromkeys(asked["video"]))
        if len(gallery) != columns:
            raise ValueError(
                f"{queries} names {len(gallery)} videos, the scores have {columns} columns; name those by --videos"
            )
    place = {video: number for number, video in enumerate(gallery)}
    if unknown := [video for video in dict.fromkeys(right) if video not in place]:
        raise ValueError(
            f"{len(unknown)} videos that {queries} asks for are not in the gallery of {len(gallery)}, such as "
            f"{first_few(unknown)}"
        )
    of_query = asked.get("group")
    if groups:
        table = read(groups, ("query", "group"))
        check_different(f"{groups}: queries", table["query"])
        by_name = dict(zip(table["query"], table["group"], strict=True))
        if strangers := [name for name in by_name if name not in set(names)]:
            raise ValueError(
                f"{groups} has {len(strangers)} queries that {queries} has not, such as {first_few(strangers)}"
            )
        of_query = [by_name.get(name, "") for name in names]
    own = given.task or Task(np.zeros(0, int))  # a run's file says more: its split, what failed, …
    task = dataclasses.replace(
        own,
        caption_to_video=np.array([place[video] for video in right]),
        texts=[asked["text"][i] for i in order] if "text" in asked else own.texts,
        groups=[of_query[i] for i in order] if of_query else own.groups,
    )
    return Given(given.scores, [names[i] for i in order], gallery, task)


def _order(what: str, listed: Sequence[str], side: str, named: Sequence[str], count: int) -> Sequence[int]:
    """For each row or column its place in the list."""
    if not named:
        if len(listed) != count:
            raise ValueError(
                f"{len(listed)} {what}, but the scores have {count} {side}, without names; give one for each"
            )
        return range(count)
    here, there = set(named), set(listed)
    if here != there:
        lost, extra = [x for x in listed if x not in here], [x for x in named if x not in there]
        sides = [f"{len(lost)} of the {what} are not among the {side} (such as {first_few(lost)})"] if lost else []
        sides += [f"{len(extra)} {side} are not among the {what} (such as {first_few(extra)})"] if extra else []
        raise ValueError("; ".join(sides) + "; every query and every video must be on both sides")
    place = {name: number for number, name in enumerate(listed)}
    return [place[name] for name in named]
