"""Reading annotation files: every problem is collected, so that a user sees all of them at once."""

import collections
import csv
import difflib
import json
from collections.abc import Mapping, Sequence
from typing import Any

_SHOWN = 5  # examples per problem in a message


class Problems:
    """Collects what is wrong, so that a user sees all of it at once."""

    def __init__(self, root: str):
        self.root, self.lines = root, []

    def add(self, what: str, examples: Sequence[str] = ()) -> None:
        shown = ", ".join(map(repr, examples[:_SHOWN])) + (
            f" and {len(examples) - _SHOWN} more" * (len(examples) > _SHOWN)
        )
        self.lines.append(f"{what}: {shown}" if examples else what)

    def stop_if_any(self) -> None:
        if self.lines:
            text = "".join(f"\n  - {line}" for line in self.lines)
            raise ValueError(f"{self.root}: {len(self.lines)} problem(s); correct them and run again{text}")


def read_rows(
    path: str, columns: Sequence[str], problems: Problems, optional: Sequence[str] = ()
) -> list[dict[str, str]]:
    """Rows of a CSV file by column, whatever the case of its header; optional columns that it lacks are "".

    A problem if it is not UTF-8, lacks one of the columns, or has rows with more fields than columns.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            header = [name.strip() for name in reader.fieldnames or []]
            reader.fieldnames = [name.lower() for name in header]
            if missing := [name for name in columns if name not in reader.fieldnames]:
                other = next((mark for mark in ";\t|" if len(header) == 1 and mark in header[0]), "")
                hint = f" (commas are expected between them, here is {other!r})" if other else ""
                problems.add(f"{path} has the columns {header}{hint}, it lacks", missing)
                return []
            rows, long = [], []
            for row in reader:
                rows.append({name: clean(row.get(name) or "") for name in (*columns, *optional)})
                if any(surplus := row.get(None) or ()):  # empty columns at the end are a spreadsheet's, and harmless
                    long.append(f"line {reader.line_num}, at {clean(','.join(surplus))[:60]}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        problems.add(f"{path} cannot be read ({error})")
        return []
    if long:
        problems.add(
            f"{path}: {len(long)} rows have more fields than the {len(header)} columns; a text with a comma in it "
            'needs quotation marks, "like this, say"',
            long,
        )
    return rows


def read_lines(path: str, problems: Problems) -> list[str]:
    """Lines of a text file without white space around them, empty ones left out; a problem if it is not UTF-8."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            return [clean(line) for line in file if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        problems.add(f"{path} cannot be read ({error})")
        return []


def read_json(path: str, problems: Problems) -> Any:
    """What a JSON file holds, or a problem and None."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            value = json.load(file)
    except (OSError, ValueError) as error:
        problems.add(f"{path} cannot be read as JSON ({error})")
        return None
    if value is None:
        problems.add(f"{path} holds null, which is nothing")
    return value


def clean(value: str) -> str:
    """Trimmed, and writable as UTF-8: JSON may carry half an emoji, which no file can store."""
    return value.encode("utf-8", "replace").decode().strip()


def check_ids(where: str, ids: Sequence[str], problems: Problems) -> None:
    """Ids become file names and keys: unique, and nothing that leads to another folder."""
    if twice := [clip_id for clip_id, count in collections.Counter(ids).items() if count > 1]:
        problems.add(f"{where} has ids more than once", twice)
    bad = [i for i in dict.fromkeys(ids) if not i or i == "." or ".." in i or any(c in i for c in "/\\\0")]
    if bad:
        problems.add(f"{where} has ids that are empty or hold '/', '\\', NUL or '..'", bad)


def check_overlap(lists: Mapping[str, Sequence[str]], problems: Problems) -> None:
    names = list(lists)
    for number, first in enumerate(names):
        for second in names[number + 1 :]:
            members = set(lists[second])
            if shared := [clip_id for clip_id in lists[first] if clip_id in members]:
                problems.add(f"{first} and {second} share {len(shared)} clips", shared)


def with_near(name: str, known: Sequence[str]) -> str:
    """The name, and the known ones that look like it: what a user may have meant."""
    near = difflib.get_close_matches(name, known, n=2)
    return f"{name} (like {', '.join(near)})" if near else name
