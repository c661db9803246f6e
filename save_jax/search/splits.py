"""The test split of a run as an index: the very clips that it was evaluated on, as its shards hold them.

The films themselves are not in shards; where their folder is given, hits can be played.
"""

import contextlib
import itertools
import os
import sys
from collections.abc import Iterator, Mapping

from tqdm import tqdm

from data_prep.corpora.folder import VIDEO_SUFFIXES
from data_prep.names import as_text
from save_jax.data import records
from save_jax.inference import runs
from save_jax.search import indexing, reading, words
from save_jax.search.embedder import Embedder
from save_jax.search.indexing import Summary
from save_jax.search.reading import Rows, Underway
from save_jax.search.roots import Found
from save_jax.search.store import Store
from save_jax.search.transcripts import Spoken
from save_jax.search.windows import Cut, Segment, Window


def make(index: str, embedder: Embedder, run: str, videos: str = "", data_dir: str = "") -> tuple[Store, Summary]:
    """Puts the split's clips into a new index.

    Args:
        index: its folder, new or empty.
        run: workdir of a run.
        videos: folder of the films, named by the clips' ids; "" where they are not here.
        data_dir: of the shards, where they moved.
    Raises:
        ValueError for a run whose shards are not there, a folder in which no film has a clip's id, and an index that
        holds something. Then nothing is written. Whatever else ends it, Ctrl-C too, leaves the folder as it was: half a
        split would be asked as if it were whole.
    """
    config = runs.read_config(run, data_dir or None)
    source = records.ShardSource(records.split_shards(config.data_dir, config.data.test_split))
    clips = (clip for number in range(len(source)) if (clip := source[number]).frames)
    films = _films(videos) if videos else {}
    root = os.path.abspath(videos or config.data_dir)
    if videos and not any(id in films for id in source.ids):
        raise ValueError(f"no file in {videos} is named after a clip of {run}, such as {source.ids[0]}.mp4")
    there = os.path.isdir(index)
    store = Store.create(index, embedder, Cut(embedder.cut.seconds, embedder.cut.seconds))
    summary = Summary()
    with store.writing(), tqdm(total=len(source), unit="clip", disable=None, file=sys.stderr) as bar:
        try:
            store.about.roots, store.about.split = {"test": root}, config.data.test_split
            store.save()
            indexing.commit_all(store, _rows(clips, embedder, films, root), summary, bar)
            if summary.stopped:
                raise KeyboardInterrupt
            words.index(store)
            store.tidy()
        except BaseException:
            store.discard()
            if not there:
                with contextlib.suppress(OSError):  # somebody put something into it
                    os.rmdir(index)
            raise
    return store, summary


def _films(folder: str) -> dict[str, str]:
    """Stem → path, of all films below."""
    return {
        os.path.splitext(name)[0]: os.path.join(directory, name)
        for directory, _, names in os.walk(folder)
        for name in sorted(names)
        if os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES
    }


def _rows(clips: Iterator[records.Clip], embedder: Embedder, films: Mapping[str, str], root: str) -> Iterator[Rows]:
    while batch := [*itertools.islice(clips, embedder.batch)]:
        windows = [Window(0, 0.0, float(clip.frame_times[-1]) + 1.0, clip, _picture(clip)) for clip in batch]
        embedded = embedder.windows(windows)
        for number, (clip, window) in enumerate(zip(batch, windows, strict=True)):
            spoken = Spoken(_segments(clip, window.end), clip.speech.get("source", ""), clip.speech.get("language", ""))
            file = Underway(_found(clip.id, films, root), "", f"clip {clip.id}", spoken, [*clip.notes])
            reading.add_window(file, window, embedded, number)
            yield reading.rows_of(file)


def _picture(clip: records.Clip) -> bytes:
    """The frame in the middle, where it is a JPEG."""
    frame = clip.frames[len(clip.frames) // 2]
    return frame if frame.startswith(b"\xff\xd8") else b""


def _segments(clip: records.Clip, end: float) -> list[Segment]:
    whole = [{"start": 0.0, "end": end, "text": clip.transcript}] if clip.transcript else []
    said = clip.speech.get("segments") or whole
    return [{"start": float(part["start"]), "end": float(part["end"]), "text": part["text"]} for part in said]


def _found(id: str, films: Mapping[str, str], root: str) -> Found:
    if (full := films.get(id)) is None:
        return Found(f"test/{id}", "test", id, "", 0, 0)
    about, path = os.stat(full), as_text(os.path.relpath(full, root)).replace(os.sep, "/")
    return Found(f"test/{path}", "test", path, full, about.st_size, about.st_mtime_ns)
