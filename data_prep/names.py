"""Names of clips and files: which mean the same, and how long one may be.

macOS writes é into file names as two characters, most other programs as one. Both are one name here. Capitals matter,
but for subtitles beside a video; where only they differ, a message shows both names.
"""

import collections
import hashlib
import os
import unicodedata
from collections.abc import Callable, Collection, Iterable, Sequence

from save_jax.data import command_line

_LONGEST = 255  # bytes of a file name
as_text = command_line.as_text  # also of a file's name


def form(name: str) -> str:
    """What all Unicode forms of a name have in common."""
    return unicodedata.normalize("NFC", name)


def alike(names: Iterable[str]) -> list[list[str]]:
    """Groups of different names that differ in their Unicode form alone."""
    by_form = collections.defaultdict(dict)
    for name in names:
        by_form[form(name)][name] = None
    return [[*group] for group in by_form.values() if len(group) > 1]


def told_apart(names: Sequence[str]) -> list[str]:
    """The names as a message shows them: with escapes where some of them look the same."""
    return [ascii(name) for name in names] if alike(names) else [*names]


def matcher(known: Collection[str], any_case: bool = False) -> Callable[[str], str]:
    """Turns a name into the known one that it means: itself, or the only one of its form; else it stays as it is.

    `any_case`: or the only one that differs in capitals alone, as in names of files that belong to another.
    """
    exact = frozenset(known)
    keys: list[Callable[[str], str]] = [form, lambda name: form(name).casefold()][: 1 + any_case]
    tables = [collections.defaultdict(set) for _ in keys]
    for name in exact:
        for key, table in zip(keys, tables, strict=True):
            table[key(name)].add(name)

    def match(name: str) -> str:
        if name in exact:
            return name
        found = (table.get(key(name), ()) for key, table in zip(keys, tables, strict=True))
        return next((min(same) for same in found if len(same) == 1), name)

    return match


def short(name: str, suffix: str = "") -> str:
    """Name and suffix, as the system takes them for a file: one of more than 255 bytes is cut, and a hash of all of it
    keeps it apart.
    """
    whole = name.encode("utf-8", "surrogateescape")
    end = suffix
    if len(whole) + len(suffix) > _LONGEST:
        end = f"~{hashlib.sha256(whole).hexdigest()[:12]}{suffix}"
        whole = whole[: _LONGEST - len(end)].decode("utf-8", "ignore").encode()
    return os.fsdecode(whole) + end
