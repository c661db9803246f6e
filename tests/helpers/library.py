"""A library of a few short videos: a small model with random parameters that embeds them, and rows without any."""

import dataclasses
import datetime
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from data_prep.media.opening import MediaError
from helpers import media
from helpers.corpus import WORDS
from helpers.places import REPOSITORY
from save_jax import sharding
from save_jax.config import model_sizes
from save_jax.config.finding import read_config
from save_jax.data import tokenizer
from save_jax.inference.model import Model
from save_jax.models.retrieval import Retrieval
from save_jax.search import indexing, reading, roots
from save_jax.search.embedder import Embedder
from save_jax.search.indexing import Summary
from save_jax.search.library import Library
from save_jax.search.reading import Left, Rows
from save_jax.search.roots import Found
from save_jax.search.store import Store
from save_jax.search.transcripts import Transcriber
from save_jax.search.windows import Cut

FPS = 8
CUT = Cut(2.0, 1.0)
NO_TIME = datetime.timedelta(milliseconds=1)
SILENT = Transcriber("", "")  # subtitles alone


def make_embedder(folder: Path, seed: int = 0, name: str = "random") -> Embedder:
    """Windows of 2 s, vectors of 32; the tokenizer is written into the folder."""
    config = read_config("demo:smoke")
    tokenizer.learn([" ".join(WORDS)] * 3, str(folder / "tokenizer"), config.model.vocab_size)
    module = Retrieval(model_sizes(config))
    shapes = jax.eval_shape(lambda key: module.init(key, module.example(config))["params"], jax.random.key(0))
    rng = np.random.default_rng(seed)  # a compiled initialisation would take longer than all that the tests do with it
    params = jax.tree_util.tree_map_with_path(lambda path, x: _drawn(path[-1].key, x.shape, rng), shapes)
    words = tokenizer.open_words(str(folder / "tokenizer"))
    return Embedder(Model(config, params, words, sharding.make_mesh(jax.devices()[:1])), name)


def _drawn(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> jax.Array:
    middle = {"scale": 1.0, "logit_scale": np.log(100.0)}.get(name, 0.05)  # gates are open
    return jnp.asarray(middle + (name != "logit_scale") * rng.normal(0, 0.1, shape), jnp.float32)


@dataclasses.dataclass(frozen=True)
class NoModel:
    """What the store asks of an embedder, for tests of rows that no model made."""

    name: str = "none"
    digest: str = "0" * 64
    senses: tuple[str, ...] = ("vision",)
    size: int = 64
    frames: int = 12


def write_video(path: Path, seconds: float = 3, number: int = 0, said: Sequence[str] = ()) -> Path:
    """Pictures and a tone of its own, and a line of subtitles a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = [media.numbered((37 * number + 11 * (k // FPS)) % 256) for k in range(round(FPS * seconds))]
    media.write_media(path, frames, fps=FPS, sound=media.tone(16000, seconds, 200 + 50 * number))
    if said:
        lines = [f"{k + 1}\n00:00:0{k},100 --> 00:00:0{k},900\n{line}\n" for k, line in enumerate(said)]
        path.with_suffix(".srt").write_text("\n".join(lines), encoding="utf-8")
    settle(path)
    return path


def write_text(path: Path, text: str) -> None:
    """A file that no decoder reads, for `update_plainly`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    settle(path)


def settle(path: Path) -> None:
    """Makes a file older than those that may still be written."""
    about = os.stat(path)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns - 10**10))


def update(store: Store, embedder: Embedder, *folders: Path) -> Summary:
    """Indexes, with new folders."""
    change = indexing.with_folders([str(folder) for folder in folders])
    return indexing.update(store, embedder, SILENT, jobs=1, progress=False, change=change)


def make_library(folder: Path, embedder: Embedder, *folders: Path) -> Library:
    """A new index of folders, opened."""
    store = Store.create(str(folder), embedder, CUT)
    update(store, embedder, *folders)
    return Library(store, embedder)


def names(store: Store) -> list[str]:
    """Names of all files of an index."""
    return sorted(row["file"] for row in store.file_rows())


def contents(store: Store) -> set[str]:
    """Of all windows."""
    return set(store.windows.to_arrow()["content"].to_pylist())


def environment() -> dict[str, str]:
    """In which another process imports the project and the tests' helpers."""
    return os.environ | {"PYTHONPATH": f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'tests'}"}


def plain_rows(found: Found, windows: int = 2, picture: int = 2000) -> Rows:
    """Rows that depend on a file's bytes alone, and no model makes; MediaError for a file that begins with "bad"."""
    about, bare = NoModel(), {"state": "ready", "reason": "", "notes": [], "language": "en"}
    bare |= {"source": "made", "heard": ""}
    with open(found.full, "rb") as file:
        if file.read(3) == b"bad":
            raise MediaError(f"{found.full}: not a readable media file")
    content = roots.content_of(found)
    rng = np.random.default_rng(list(content.encode()))
    made = [
        {
            "content": content, "number": k, "start": 6.0 * k, "end": 6.0 * k + 12,
            "times": np.arange(12, dtype=np.float32) + 6 * k,
            "mean": rng.normal(size=about.size).astype(np.float32),
            "frames": (frames := rng.normal(size=(1, about.frames, about.size)).astype(np.float16).tobytes()),
            "terms": frames,
            "words": "a red car", "picture": rng.bytes(picture),
        }
        for k in range(windows)
    ]  # fmt: skip
    where = {"file": found.file, "root": found.root, "path": found.path, "size": found.size}
    where |= {"lines": found.lines, "mounted": found.mounted, "sample": roots.sample_of(found)}
    where |= {"modified": found.modified, "content": content, "duration": 18.0, "windows": windows, "unread": 0}
    segments = [{"content": content, "number": 0, "start": 0.0, "end": 2.0, "text": f"a red car {found.path}"}]
    return Rows(bare | where, made, segments)


def embed_plainly(files: Sequence[Found]) -> Iterator[Rows | Left]:
    """In place of `reading.embed_files`."""
    for found in files:
        try:
            yield plain_rows(found)
        except MediaError as error:
            yield reading.failed_rows(found, str(error))
        except OSError as error:
            yield Left(found, f"{found.full}: {error.strerror}")


def update_plainly(folder: Path, root: Path) -> Summary:
    """Indexes a folder of any files named as videos, without a model."""
    there = (folder / "library.json").exists()
    store = Store.open(str(folder)) if there else Store.create(str(folder), NoModel(), Cut())
    change = indexing.with_folders([str(root)])
    return indexing.update(store, NoModel(), SILENT, 1, progress=False, embed=embed_plainly, change=change)
