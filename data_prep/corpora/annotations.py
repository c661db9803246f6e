"""Reading annotation files: every problem is collected, so that a user sees all of them at once."""

import collections
import csv
import os
from collections.abc import Mapping, Sequence

from data_prep.speech import transcripts

VIDEO_SUFFIXES = (".mp4", ".webm")
_SHOWN = 5  # examples per problem in a message


class Problems:
    """Collects what is wrong, so that a user sees all of it at once."""

    def __init__(self, root: str):
        self.root, self.found = root, []

    def add(self, what: str, examples: Sequence[str] = ()) -> None:
        shown = ", ".join(map(repr, examples[:_SHOWN])) + (
            f" and {len(examples) - _SHOWN} more" * (len(examples) > _SHOWN)
        )
        self.found.append(f"{what}: {shown}" if examples else what)

    def stop_if_any(self) -> None:
        if self.found:
            lines = "".join(f"\n  - {line}" for line in self.found)
            raise ValueError(
                f"{self.root}: {len(self.found)} problem(s) in the annotations; correct them and run again{lines}"
            )


def read_rows(path: str, columns: Sequence[str], problems: Problems) -> list[dict[str, str]]:
    """Rows of a CSV file, or a problem if it is not UTF-8 or lacks one of the columns."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            found = [name.strip() for name in reader.fieldnames or []]
            if missing := [name for name in columns if name not in found]:
                problems.add(f"{path} has the columns {found}, it lacks", missing)
                return []
            reader.fieldnames = found
            return [{name: clean(row[name] or "") for name in columns} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        problems.add(f"{path} cannot be read ({error})")
        return []


def clean(value: str) -> str:
    """Trimmed, and writable as UTF-8: JSON may carry half an emoji, which no file can store."""
    return value.encode("utf-8", "replace").decode().strip()


def by_stem(folder: str, suffixes: Sequence[str]) -> dict[str, str]:
    """Clip id → path, for the files with these suffixes; the first suffix wins. {} where there is no such folder."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    found = {}
    for suffix in reversed(suffixes):
        found |= {name.removesuffix(suffix): os.path.join(folder, name) for name in names if name.endswith(suffix)}
    return found


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


def read_transcripts(folders: Sequence[str], name: str, problems: Problems) -> dict[str, str]:
    path = next((p for p in (os.path.join(folder, name) for folder in folders) if os.path.exists(p)), None)
    if path is None:
        return {}
    try:
        return {clip_id: clean(text) for clip_id, text in transcripts.read_transcripts(path).items()}
    except ValueError as error:
        problems.add(str(error))
        return {}
