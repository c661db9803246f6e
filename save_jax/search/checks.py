"""What is wrong with an index, if anything: each line a check that was made."""

import os
import shutil
from collections.abc import Iterator
from typing import NamedTuple

from save_jax.search import ranking, roots
from save_jax.search.store import READY, LibraryError, Store, size_of


class Check(NamedTuple):
    """One line."""

    fine: bool
    what: str
    advice: str = ""


def run(folder: str, model_digest: str | None = None) -> Iterator[Check]:
    """Checks in order; the first that stops all others is the last.

    `model_digest`: of the model that would be searched with, where it can be opened.
    """
    try:
        store = Store.open(folder)
    except LibraryError as error:
        yield Check(False, str(error))
        return
    yield Check(True, f"form {store.about.schema}, made with {store.about.model} ({store.about.digest[:12]})")
    if model_digest is not None:
        same = model_digest == store.about.digest
        yield Check(same, "the model has the parameters of the rows" if same else "the model has other parameters")
    rows = store.file_rows()
    for name, path in store.about.roots.items():
        there = roots.is_there(path)
        count = sum(row["root"] == name for row in rows)
        advice = "" if there else "mount it again; its files stay known and can be found, and cannot be played"
        yield Check(there, f"root {name} ({path}): {count} files" + ("" if there else ", offline"), advice)
    ready = [row for row in rows if row["state"] == READY]
    here = {name for name, path in store.about.roots.items() if roots.is_there(path)}
    missing = [row for row in ready if row["root"] in here and not os.path.exists(_path(store, row))]
    away = [row for row in missing if row["mounted"]]
    if away:
        advice = "mount its disk again; its files stay known and can be found, and cannot be played"
        yield Check(False, f"{len(away)} files of a disk below a root are away", advice)
    gone = len(missing) - len(away)
    if store.about.split:
        yield Check(True, f"{gone} clips of the {store.about.split} split have no film here")
    else:
        yield Check(not gone, f"{gone} files are known and not there", "run `search index` again" if gone else "")
    failed = len(rows) - len(ready)
    yield Check(not failed, f"{failed} files could not be read", "`search stats --files` lists them" if failed else "")
    view = ranking.view(store)
    orphans = len(set(view.names) - view.files.keys())
    yield Check(
        not orphans, f"{orphans} contents that no file has", "the next `search index` clears them" if orphans else ""
    )
    there = set(view.names)
    bare = [row["file"] for row in ready if row["content"] not in there]
    yield Check(
        not bare, f"{len(bare)} files without windows", f"such as {bare[0]}: run `search index` again" if bare else ""
    )
    writable = os.access(folder, os.W_OK)
    yield Check(writable, "the folder can be written" if writable else "the folder is for reading alone")
    free = shutil.disk_usage(folder).free
    yield Check(free > 1e9, f"{free / 1e9:.1f} GB free where it lies; it takes {size_of(folder) / 1e6:.1f} MB")


def _path(store: Store, row: dict) -> str:
    return roots.locate(store.about.roots[row["root"]], row["path"])
