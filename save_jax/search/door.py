"""`save_jax.open_library`."""

import os

import numpy as np

from save_jax.search.library import Library
from save_jax.search.models import open_embedder
from save_jax.search.store import Store


def open_library(folder: str | os.PathLike, model: str = "") -> Library:
    """Opens an index made by `save-jax search index`.

    `model`: where the model lies now; by default where it lay when the index was made. Raises ValueError for a folder
    that is no index, a model that is not there, and one whose parameters are others.
    """
    store = Store.open(os.path.expanduser(os.fspath(folder)))
    return Library(store, open_embedder(model or store.about.model))


def export_embeddings(library: Library, path: str) -> None:
    """Every window's mean vector: .parquet with its file and times, or .npy alone, float32 [n, d].

    Raises ValueError for another suffix.
    """
    view = library.view
    if path.endswith(".npy"):
        np.save(path, np.asarray(view.means))
    elif path.endswith(".parquet"):
        import pyarrow as pa
        import pyarrow.parquet as pq

        named = [view.files.get(view.names[number], [{"file": ""}])[0]["file"] for number in view.contents]
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.asarray(view.means).ravel()), view.means.shape[1])
        pq.write_table(pa.table({"file": named, "start": view.starts, "end": view.ends, "vector": vectors}), path)
    else:
        raise ValueError(f"{path}: embeddings are written as .npy or .parquet")
