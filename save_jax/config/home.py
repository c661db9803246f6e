"""Paths that begin with "~", which shells expand at the beginning of a word alone."""

import os


def expand(paths: str) -> str:
    """A path, or several with commas, with "~" as the home that it stands for."""
    return ",".join(os.path.expanduser(path) for path in paths.split(","))
