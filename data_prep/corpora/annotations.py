"""Reading annotation files: every problem is collected, so that a user sees all of them at once."""

import collections
import difflib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from data_prep import encoding

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


def read_text(path: str, problems: Problems) -> str | None:
    """What a text file holds, or a problem and None. An encoding that had to be guessed is told in a warning."""
    try:
        return encoding.read_text(path)
    except ValueError as error:
        problems.add(str(error))
        return None


def read_lines(path: str, problems: Problems) -> list[str]:
    """Lines of a text file without white space around them, empty ones left out; a problem if it cannot be read."""
    return [clean(line) for line in re.split(r"\r\n|\r|\n", read_text(path, problems) or "") if line.strip()]


def read_json(path: str, problems: Problems) -> Any:
    """What a JSON file holds, or a problem and None. A name that stands twice in one object is a problem, too."""
    if (text := read_text(path, problems)) is None:
        return None
    twice: list[str] = []

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        counts = collections.Counter(name for name, _ in pairs)
        twice.extend(name for name, count in counts.items() if count > 1)
        return dict(pairs)

    try:
        value = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        problems.add(f"{path} cannot be read as JSON ({error})")
        return None
    if twice:
        problems.add(f"{path} has names more than once in one object, where only the last would count", twice)
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
    near = [other for other in known if other.casefold() == name.casefold()]
    near = near or difflib.get_close_matches(name, known, n=2)
    return f"{name} (like {', '.join(near)})" if near else name
