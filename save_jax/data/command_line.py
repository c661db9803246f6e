"""What every command does first: it takes and checks what was typed, and makes sure that no terminal can end it.

A job's log need not be UTF-8. A letter that it cannot hold, as the arrow of a table or a name, is written as an escape.
Shells expand "~" at the beginning of a word alone, and not in --root=~/videos.
"""

import io
import os
import sys
from collections.abc import Sequence

_LENIENT = ("backslashreplace", "replace", "xmlcharrefreplace", "namereplace", "ignore")


def arguments(argv: Sequence[str] | None = None) -> list[str]:
    """What follows the command's name, `argv` or what was typed, with "~" as the home that it stands for."""
    accept_any_letter()
    return [_with_home(argument) for argument in (sys.argv[1:] if argv is None else argv)]


def accept_any_letter() -> None:
    """Standard output and errors take every text from here on, whatever their encoding."""
    for stream in (sys.stdout, sys.stderr):
        if not isinstance(stream, io.TextIOWrapper) or stream.errors in _LENIENT:
            continue
        if stream.errors != "surrogateescape" or stream.encoding.lower() != "utf-8":  # which pass names as they are
            stream.reconfigure(errors="backslashreplace")


def check_folder(option: str, path: str, what: str) -> None:
    """Raises ValueError for the address of an object store: `what` is written through the file system."""
    if "://" in path:
        raise ValueError(
            f"{option} {path} is an address, and {what} in a folder of a file system; give a local folder and copy it "
            "there afterwards (gcloud storage rsync, aws s3 sync, …)"
        )


def as_text(name: str) -> str:
    """A name that the system gave, as text that UTF-8 can hold, whatever bytes it has and the system's encoding."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def visible(text: str) -> str:
    """A name or a line as a terminal may print it: control characters and marks of direction are shown, not obeyed."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def _with_home(argument: str) -> str:
    def expand(paths: str) -> str:  # as config.home, without what the config room needs: judge runs on NumPy alone
        return ",".join(os.path.expanduser(path) for path in paths.split(","))

    flag, equals, value = argument.partition("=")
    return flag + equals + expand(value) if equals and flag.startswith("-") else expand(argument)
