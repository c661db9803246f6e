"""Names of clips and files: which mean the same, and how long one may be.

macOS writes é into file names as two characters, most other programs as one. Both are one name here. Capitals are not
taken for small letters: where only they differ, a message shows both names.
"""

import collections
import hashlib
import os
import unicodedata
from collections.abc import Callable, Collection, Iterable

_LONGEST = 255  # bytes of a file name


def form(name: str) -> str:
    """What all Unicode forms of a name have in common."""
    return unicodedata.normalize("NFC", name)


def alike(names: Iterable[str]) -> list[list[str]]:
    """Groups of different names that differ in their Unicode form alone."""
    by_form = collections.defaultdict(dict)
    for name in names:
        by_form[form(name)][name] = None
    return [[*group] for group in by_form.values() if len(group) > 1]


def matcher(known: Collection[str]) -> Callable[[str], str]:
    """Turns a name into the known one that it means: itself, or the only one of its form; else it stays as it is."""
    by_form = collections.defaultdict(list)
    for name in known:
        by_form[form(name)].append(name)

    def match(name: str) -> str:
        same = by_form.get(form(name), [])
        return name if name in known or len(same) != 1 else same[0]

    return match


def short(name: str, suffix: str = "") -> str:
    """Name and suffix as a file name: one of more than 255 bytes is cut, and a hash of all of it keeps it apart."""
    whole = os.fsencode(name)
    if len(whole) + len(os.fsencode(suffix)) <= _LONGEST:
        return name + suffix
    end = f"~{hashlib.sha256(whole).hexdigest()[:12]}{suffix}"
    return whole[: _LONGEST - len(os.fsencode(end))].decode("utf-8", "ignore") + end
