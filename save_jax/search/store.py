"""What an index holds, in a folder of LanceDB: files, their windows with vectors, and what is said in them.

One process writes at a time; any number reads, each one version, and the latest where its own was cleaned up
(`Store.reading`). Rows of a file are written before the file's own row: a run that is killed leaves rows that no file
names, which are never shown and cleared by the next run.
"""

import contextlib
import dataclasses
import datetime
import math
import os
import re
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import filelock
import lancedb
import numpy as np
import pyarrow as pa

from save_jax.data import files
from save_jax.search.embedder import Embedder
from save_jax.search.plain import plain
from save_jax.search.rows import arrays, take
from save_jax.search.windows import Cut

SCHEMA = 2  # raise it when rows change their form
ABOUT = "library.json"
LOCK = "writer.lock"
READY, FAILED = "ready", "failed"
TABLES = ("files", "windows", "segments")
_PIECES, _LOOSE = 32, 1.25  # of a table that is joined again: more pieces, or more bytes than its rows have
_AT_ONCE = datetime.timedelta(milliseconds=1)  # LanceDB warns of 0
_TRIES = 10
_GONE = re.compile(r"Version \d+ no longer exists\. Was it cleaned up\?")
T = TypeVar("T")


class LibraryError(ValueError):
    """An index cannot be used as it is; the message says why, and what to do."""


@dataclasses.dataclass
class About:
    """library.json: what the rows were made with, and where the files are."""

    model: str  # as the user named it
    digest: str  # of its parameters
    senses: list[str]
    size: int  # of a vector
    frames: int  # most of a window
    seconds: float  # of a window
    hop: float
    roots: dict[str, str] = dataclasses.field(default_factory=dict)  # name → absolute path here
    speech: str = ""  # recogniser of files without subtitles
    language: str = ""  # that it is told
    split: str = ""  # of a run, where the rows are its clips and no files of folders
    schema: int = SCHEMA
    examples: list[str] = dataclasses.field(default_factory=list)  # sentences that the page offers
    cutoff: dict[str, Any] = dataclasses.field(default_factory=dict)  # as `cutoff.calibrate` gives it
    row_bytes: dict[str, float] = dataclasses.field(default_factory=dict)  # of each table, when it was joined last

    @property
    def cut(self) -> Cut:
        return Cut(self.seconds, self.hop)

    def check(self, embedder: Embedder, folder: str) -> None:
        """Raises LibraryError for a model whose vectors are not those of the rows."""
        if embedder.digest != self.digest:
            raise LibraryError(
                f"{folder} was made with {self.model} ({self.digest[:12]}), and {embedder.name} has other parameters "
                f"({embedder.digest[:12]}): their vectors cannot be compared. Give --model {self.model}, or index into "
                "another folder beside this one"
            )


def read_about(folder: str) -> About:
    """Raises LibraryError as `Store.open` does."""
    path = os.path.join(folder, ABOUT)
    if not os.path.exists(path):
        raise LibraryError(
            f"{folder} is no index: it has no {ABOUT}; make one with save-jax search index DIR --index {folder}"
        )
    try:
        stored = files.read_json(path)
        if stored["schema"] != SCHEMA:
            raise LibraryError(
                f"{folder} has rows of form {stored['schema']}, and this version of save_jax reads form {SCHEMA}; "
                "index into a new folder, or use the version that made it"
            )
        known = {field.name for field in dataclasses.fields(About)}
        return About(**{name: value for name, value in stored.items() if name in known})
    except LibraryError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise LibraryError(f"{path} is damaged ({error}); index into a new folder") from error


def file_schema() -> pa.Schema:
    text, number = pa.string(), pa.float64()
    return pa.schema(
        [
            ("file", text), ("root", text), ("path", text), ("content", text), ("sample", text),
            ("size", pa.int64()), ("modified", pa.int64()), ("lines", text), ("mounted", pa.bool_()),
            ("state", text), ("reason", text), ("notes", pa.list_(text)),
            ("duration", number), ("language", text), ("source", text), ("heard", text),
            ("windows", pa.int32()), ("unread", pa.int32()),
        ]
    )  # fmt: skip


def window_schema(size: int) -> pa.Schema:
    return pa.schema(
        [
            ("content", pa.string()), ("number", pa.int32()), ("start", pa.float32()), ("end", pa.float32()),
            ("times", pa.list_(pa.float32())), ("mean", pa.list_(pa.float32(), size)),
            ("frames", pa.binary()), ("terms", pa.binary()), ("words", pa.string()), ("picture", pa.binary()),
        ]
    )  # fmt: skip


def segment_schema() -> pa.Schema:
    text, number = pa.string(), pa.float32()
    names = ("content", text), ("number", pa.int32()), ("start", number), ("end", number), ("text", text)
    return pa.schema([*names, ("plain", text), ("joined", text)])


def with_words(segments: Sequence[dict]) -> list[dict]:
    """Segments with their plain words, and those joined with the next one's of the same content, which comes next."""
    rows = [segment | {"plain": plain(segment["text"])} for segment in segments]
    after = [*rows[1:], None]
    return [
        row
        | {
            "joined": f"{row['plain']} {next_['plain']}"
            if next_ and next_["content"] == row["content"]
            else row["plain"]
        }
        for row, next_ in zip(rows, after, strict=True)
    ]


class Store:
    """The tables of one index. `Store.open` reads one; `Store.create` makes it."""

    def __init__(self, folder: str, about: About, tables: Mapping[str, Any]):
        self.folder, self.about = folder, about
        self.files, self.windows, self.segments = self.tables = [tables[name] for name in TABLES]

    @classmethod
    def create(cls, folder: str, embedder: Embedder, cut: Cut) -> "Store":
        """Raises LibraryError for a folder that holds anything but what an earlier `create` left that was killed."""
        left = {f"{name}.lance" for name in TABLES} | {f"{ABOUT}.tmp", "desktop.ini"}  # Windows puts the last there
        there = {name for name in os.listdir(folder) if not name.startswith(".")} if os.path.isdir(folder) else set()
        if ABOUT in there:
            about = read_about(folder)
            held = f"the {about.split} split of a run" if about.split else ", ".join(about.roots.values()) or "nothing"
            raise LibraryError(f"{folder} is an index already, of {held}; choose a new folder (--index)")
        if there - left:
            raise LibraryError(f"{folder} is not empty and no index of save_jax; choose a new folder (--index)")
        os.makedirs(folder, exist_ok=True)
        for name in TABLES:
            shutil.rmtree(os.path.join(folder, f"{name}.lance"), ignore_errors=True)
        database = lancedb.connect(folder)
        schemas = (file_schema(), window_schema(embedder.size), segment_schema())
        tables = {
            name: database.create_table(name, schema=schema) for name, schema in zip(TABLES, schemas, strict=True)
        }
        about = About(
            embedder.name, embedder.digest, list(embedder.senses), embedder.size, embedder.frames, cut.seconds, cut.hop
        )
        store = cls(folder, about, tables)
        store.save()  # last: a folder without it is no index
        return store

    @classmethod
    def open(cls, folder: str) -> "Store":
        """Raises LibraryError for a folder that is no index, or one of another version."""
        about = read_about(folder)
        try:
            database = lancedb.connect(folder)
            tables = {name: database.open_table(name) for name in TABLES}
        except Exception as error:  # LanceDB's have no common base
            raise LibraryError(f"{folder} cannot be read ({_first_line(error)}); index into a new folder") from error
        return cls(folder, about, tables)

    def save(self) -> None:
        files.write_json(os.path.join(self.folder, ABOUT), dataclasses.asdict(self.about))

    def discard(self) -> None:
        """Takes back what `create` made, and nothing else: the folder may hold what is not ours, such as dot files."""
        os.unlink(os.path.join(self.folder, ABOUT))  # first: a folder without it is no index
        for name in TABLES:
            shutil.rmtree(os.path.join(self.folder, f"{name}.lance"), ignore_errors=True)
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(self.folder, LOCK))

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Alone, and on what the last writer left: rows and `about` are read anew.

        Raises LibraryError while another process writes, or where the folder cannot be written.
        """
        lock = filelock.FileLock(os.path.join(self.folder, LOCK), timeout=0)
        try:
            lock.acquire()
        except filelock.Timeout:
            raise LibraryError(f"{self.folder} is being written by another process; wait for it, or stop it") from None
        except OSError as error:
            raise LibraryError(f"{self.folder} cannot be written ({error.strerror})") from error
        try:
            self.about = read_about(self.folder)
            self.refresh()
            yield
        finally:
            lock.release()

    # ---------------------------------------------------------------- reading

    def refresh(self) -> tuple[int, int, int]:
        """Versions of the tables as they are now; what is read from here on is of these."""
        for table in self.tables:
            table.checkout_latest()
        return self.files.version, self.windows.version, self.segments.version

    def reading(self, read: Callable[[], T]) -> T:
        """`read()`, and once more from the latest version where a writer cleaned up the one that it reads.

        Raises LibraryError where rows are missing from the latest, too.
        """
        for tries in range(1, _TRIES + 1):
            try:
                if tries > 1:
                    self.refresh()
                return read()
            except (RuntimeError, ValueError) as error:
                if not _is_gone(error):
                    raise
                if tries == _TRIES:
                    reason = _first_line(error)
                    raise LibraryError(f"{self.folder} is damaged ({reason}); index into a new folder") from error
            time.sleep(0.02 * tries)
        raise AssertionError

    def file_rows(self) -> list[dict]:
        """All files."""
        return self.reading(lambda: self.files.to_arrow().to_pylist())

    def segments_of(self, content: str) -> list[dict]:
        """What is said in a content, in time order: "start", "end", "text"."""

        def read() -> list[dict]:
            chosen = self.segments.search().where(f"content IN ({_quoted([content])})").limit(None)
            return chosen.select(["start", "end", "text"]).to_list()

        return sorted(self.reading(read), key=lambda line: (line["start"], line["end"]))

    def windows_at(self, version: int) -> Any:
        """The windows' table as it was in one version, whatever other threads refresh. Raises RuntimeError where it is
        cleaned up.
        """
        table = lancedb.connect(self.folder).open_table("windows")
        table.checkout(version)
        return table

    def frames(self, table: Any, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(frames float16 [n, t, d], mask bool [n, t]) of rows of the windows' table."""
        taken = take(table, offsets, ["times", "frames"])
        return arrays(taken["frames"], self.about.frames, self.about.size), self._mask(taken)

    def terms(self, table: Any, offsets: np.ndarray) -> np.ndarray:
        """float16 [n, senses, t, d]: what the frames of those rows are the sum of."""
        return arrays(take(table, offsets, ["terms"])["terms"], *self._shape_of_terms)

    def explained(self, table: Any, offsets: np.ndarray) -> tuple[list[dict], np.ndarray, np.ndarray]:
        """(what a hit shows of rows of the windows' table, their mask, their `terms`)."""
        shown = ["content", "number", "start", "end", "times", "words"]
        taken = take(table, offsets, [*shown, "terms"])
        return taken.select(shown).to_pylist(), self._mask(taken), arrays(taken["terms"], *self._shape_of_terms)

    def _mask(self, rows: pa.Table) -> np.ndarray:
        return np.arange(self.about.frames)[None] < rows["times"].combine_chunks().value_lengths().to_numpy()[:, None]

    @property
    def _shape_of_terms(self) -> tuple[int, int, int]:
        return len(self.about.senses), self.about.frames, self.about.size

    # ---------------------------------------------------------------- writing

    def put(
        self, files: list[dict], windows: list[dict], segments: list[dict], begun: Collection[str] = frozenset()
    ) -> None:
        """Commits files: their windows and segments first, in place of what was there.

        `begun`: contents to whose rows these are added, since they come in parts.
        """
        contents = {row["content"] for row in windows} | {row["content"] for row in segments}
        self._delete_contents(contents.difference(begun))
        if windows:
            self.windows.add(pa.Table.from_pylist(windows, window_schema(self.about.size)))
        if segments:
            self.segments.add(pa.Table.from_pylist(with_words(segments), segment_schema()))
        self.put_files(files)

    def put_files(self, rows: list[dict]) -> None:
        """Adds files, in place of rows of the same name."""
        if rows:
            table = pa.Table.from_pylist(rows, file_schema())
            self.files.merge_insert("file").when_matched_update_all().when_not_matched_insert_all().execute(table)

    def forget_root(self, name: str) -> int:
        """Takes a root out with its files; how many these were."""
        where = f"root = {_quoted([name])}"
        count = self.files.count_rows(where)
        self.files.delete(where)
        self.clear_orphans()
        del self.about.roots[name]  # last: a row of a root that nobody knows leads nowhere
        self.save()
        return count

    def forget(self, names: Sequence[str]) -> None:
        """Takes files out, and the rows of contents that no file has any more."""
        if names:
            self.files.delete(f"file IN ({_quoted(names)})")
        self.clear_orphans()

    def clear_orphans(self) -> int:
        """Deletes windows and segments that no file names; how many contents that were."""
        files, windows, segments = map(_contents, self.tables)
        orphans = (windows.keys() | segments.keys()) - files.keys()
        self._delete_contents(orphans)
        return len(orphans)

    def tidy(self) -> None:
        """Joins pieces and removes earlier versions, so that the folder is little more than its rows.

        A table is written anew by that, so that it waits for some pieces. Removes what killed writers left, too: call
        it while `writing`.
        """
        for name, table in zip(TABLES, self.tables, strict=True):
            folder, stats = os.path.join(self.folder, f"{name}.lance"), table.stats()
            # Deleted rows keep their bytes until then, and are in its own count of them.
            needed = self.about.row_bytes.get(name, math.inf) * stats["num_rows"]
            loose = size_of(folder) > _LOOSE * min(needed, stats["total_bytes"])
            if loose or stats["fragment_stats"]["num_fragments"] > _PIECES:
                for _ in range(
                    2
                ):  # the first spares what is younger than `_AT_ONCE`, such as what it has just replaced
                    table.optimize(cleanup_older_than=_AT_ONCE, delete_unverified=True)
                    time.sleep(2 * _AT_ONCE.total_seconds())
                if rows := table.count_rows():
                    self.about.row_bytes[name] = size_of(folder) / rows
                    self.save()

    def halves(self) -> set[str]:
        """Names of files whose windows are not all there: a run was killed while they were read again."""
        there = _contents(self.windows)
        return {
            row["file"]
            for row in self.file_rows()
            if row["state"] == READY and there.get(row["content"], 0) != row["windows"]
        }

    def _delete_contents(self, contents: set[str]) -> None:
        for table in (self.segments, self.windows) if contents else ():
            table.delete(f"content IN ({_quoted(sorted(contents))})")


def _contents(table: Any) -> dict[str, int]:
    """Each, and how many rows have it."""
    column = table.search().select(["content"]).limit(None).to_arrow()["content"]
    return {row["values"]: row["counts"] for row in column.value_counts().to_pylist()}


def size_of(folder: str) -> int:
    """Bytes of all files below; those that go meanwhile count nothing."""
    size = 0
    for directory, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                size += os.path.getsize(os.path.join(directory, name))
    return size


def _is_gone(error: Exception) -> bool:
    """Whether LanceDB, which has no class for it, says that a version or its rows were cleaned up."""
    said = str(error)
    return "Not found" in said if isinstance(error, RuntimeError) else bool(_GONE.fullmatch(said))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _quoted(names: Sequence[str]) -> str:
    """Texts as SQL has them; a quote inside is doubled."""
    return ", ".join("'" + name.replace("'", "''") + "'" for name in names)
