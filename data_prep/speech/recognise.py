"""Sound files to raw recognised speech: decoded, cut at silences, transcribed in batches, kept in the cache.

This is the task that a worker runs. In: paths of files; out: for each what Whisper said with its measures, before any
filter, as plain data that JSON can hold.
"""

import contextlib
import dataclasses
import logging
import os
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence, Set
from concurrent.futures import FIRST_COMPLETED, Future, InvalidStateError, ThreadPoolExecutor, wait
from typing import Any

import numpy as np

from data_prep import runners
from data_prep.media import audio, samples
from data_prep.media.opening import MediaError
from data_prep.speech import sounds, vad, whisper
from data_prep.speech.cache import Cache, CacheError, file_digest
from data_prep.speech.hearing import Hearing, ModelError, Stopped, Track, nothing

# Raise it when the same sound and settings are to give another result.
_VERSIONS = {"transformers": 5, "faster-whisper": 4}

_ENDING = "what is being heard is heard to its end and kept; this takes some seconds"
_KEEPING = threading.Lock()
_log = logging.getLogger(__name__)
_DEADLY = 2  # runs that died while a file was under way: a power cut is none of its doing, two are


@dataclasses.dataclass(frozen=True)
class Stop:
    """Returned in place of results where no clip can be done: the model does not load, the cache cannot be written."""

    reason: str


@dataclasses.dataclass
class _File:
    """A file that is opened: what it is in the cache, when its sound begins; its result, where that is there."""

    path: str
    description: dict = dataclasses.field(default_factory=dict)
    begins: float = 0.0
    seconds: float | None = None
    result: dict | None = None
    track: Track | None = None
    died: int = 0  # runs that died while it was under way
    kept: int = 0  # pieces that the cache has
    told: float = 0.0  # up to which share it is heard


@dataclasses.dataclass
class Recognise:
    """`Recognise(…)(paths)` gives one dict for each path:

    {"language": code or "", "sound": bool, "voices": [[start, end], …] or None, "segments": [fields of
    `filters.Segment`], "sounds": [{"speech", "music"}] for each segment or None, "cached": bool}, in seconds from the
    first picture (`media.clock`); or {"problem": reason} for a file that cannot be read.

    `model_identity` and `ast_identity` say what the weights are whatever their path (`cache.model_identity`).
    """

    engine: str
    model: str
    model_identity: str
    cache: Cache
    language: str = ""  # "" detects it: the file's from its longest piece, and that of each long piece
    detector: str = "silero"  # of `vad.METHODS`
    batch_size: int = 16
    ast: str = ""
    ast_identity: str = ""

    def __post_init__(self):
        self._loaded: dict[str, Any] = {}

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_loaded": {}}  # each worker loads its own

    @property
    def group(self) -> int:
        """Files that are under way at a time: what the engine hears at once."""
        return self.batch_size if self.engine == "transformers" else whisper.cores()

    def __call__(self, paths: Sequence[str]) -> list[dict] | Stop:
        try:
            results = dict(self.stream(paths))
        except (ModelError, CacheError) as error:
            return Stop(str(error))
        return [results[path] for path in paths]

    def stream(
        self,
        paths: Iterable[str],
        tell: Callable[[str, float], None] = lambda *_: None,
        leave_deadly: bool = False,
        stop: threading.Event | None = None,
    ) -> Generator[tuple[str, dict]]:
        """Each path, once, with its result, as soon as it is there. Who does not take all of them closes it.

        Closed early or interrupted, it ends when the pieces under way are heard, and the cache has all that was heard,
        of files that were not heard to their end, too. Of `transformers`, an interrupt ends the batch under way, which
        is lost.

        Args:
            tell: hears, from any thread, of a path up to which share of it was heard.
            leave_deadly: {"deadly": True} in place of the result of a file that was under way when two runs died.
            stop: set by another thread, it ends as if interrupted, and raises `Stopped`.

        Raises ModelError and CacheError (ValueError), which no other file would escape.
        """
        todo, stop = iter(dict.fromkeys(paths)), stop or threading.Event()
        by_path: dict[str, _File] = {}
        deaths: dict[str, int] = {}

        def told(file: _File, seconds: float) -> None:
            if file.seconds:
                file.told = max(file.told, min(1.0, seconds / file.seconds))
                tell(file.path, file.told)

        def heard(track: Track) -> None:
            told(by_path[track.path], track.heard_up_to)

        hearing = Hearing(self._engine, self.language, stop, heard)

        def open_file(file: _File) -> None:
            by_path[file.path] = file
            self._open(file, deaths, leave_deadly)
            if file.track and file.track.heard:  # by an earlier run
                told(file, file.track.seconds_kept)

        if self.engine == "transformers":  # which takes pieces of several files in one batch
            files = self._in_turn(todo, hearing, open_file)
        else:
            files = self._side_by_side(todo, hearing, open_file)
        with contextlib.closing(files):
            for file in files:
                yield file.path, self._finished(by_path.pop(file.path))

    def _side_by_side(
        self, paths: Iterator[str], hearing: Hearing, open_file: Callable[[_File], None]
    ) -> Generator[_File]:
        """A file in each thread, and the pieces of all of them in others, so that one long file has every core, too.

        Weights are loaded in this thread, when a piece first asks for them: Ctrl-C reaches it in the midst of that.
        """
        asked: Future[None] = Future()
        weights: Future[whisper.Engine] = Future()

        def engine() -> whisper.Engine:
            with contextlib.suppress(InvalidStateError):  # another piece has asked
                asked.set_result(None)
            return weights.result()

        def read(path: str) -> list[_File]:
            return list(self._in_turn(iter([path]), hearing, open_file))

        hearing.engine = engine
        waiting: set[Future[list[_File]]] = set()
        with ThreadPoolExecutor(self.group) as readers, ThreadPoolExecutor(self.group) as hearing.pool:
            try:
                while True:
                    while len(waiting) < 2 * self.group and (path := next(paths, None)) is not None:
                        waiting.add(readers.submit(read, path))
                    if not waiting:
                        return
                    ends: set[Future[Any]] = {*waiting} if weights.done() else {*waiting, asked}
                    done, _ = wait(ends, return_when=FIRST_COMPLETED)
                    if asked in done:
                        weights.set_result(self._engine())
                    for future in [one for one in waiting if one in done]:
                        waiting.remove(future)
                        yield from future.result()
            except KeyboardInterrupt:
                if weights.done():
                    _log.warning(_ENDING)
                raise
            finally:
                hearing.stop.set()
                if not weights.done():
                    weights.set_exception(Stopped())
                _wait_for({future for future in waiting if not future.cancel()})

    def _in_turn(self, paths: Iterator[str], hearing: Hearing, open_file: Callable[[_File], None]) -> Generator[_File]:
        """A block of each file under way, again and again; a file that is done makes room for the next."""
        under_way: list[_File] = []
        try:
            while True:
                while len(under_way) < self.group and (path := next(paths, None)) is not None:
                    under_way.append(file := _File(path))
                    open_file(file)
                    if file.result is not None:
                        under_way.pop()
                        yield file
                if not under_way:
                    return
                of_track = {id(file.track): file for file in under_way}
                for track in hearing.block([file.track for file in under_way if file.track]):
                    file = of_track[id(track)]
                    self._keep(file, track.result)
                    under_way.remove(file)
                    yield file
                for file in under_way:
                    self._keep_pieces(file)
        finally:
            if under_way:
                with ThreadPoolExecutor(1) as aside:  # where no second Ctrl-C can end it half-way
                    _wait_for({aside.submit(self._leave, under_way)})

    def _leave(self, files: Sequence[_File]) -> None:
        """Of files that are not heard to their end. A CacheError is what ends the run, or is said by what does."""
        for file in files:  # first: a full disk takes no pieces, and is no death of this file's doing
            with contextlib.suppress(CacheError):
                self._unmark(file)
        for file in files:
            with contextlib.suppress(CacheError):
                self._keep_pieces(file)

    def _open(self, file: _File, deaths: dict[str, int], leave_deadly: bool) -> None:
        """`deaths`: of runs before this one by entry; a copy of a file that is under way finds this run's own mark."""
        path = file.path
        if os.path.isdir(path):  # pictures without a sound file
            file.result = nothing() | {"cached": True}
            return
        try:
            file.description = self._description(path)
            file.begins = samples.begin(path)
        except MediaError as error:
            file.result = {"problem": str(error)}
            return
        except OSError as error:
            file.result = {"problem": f"{path}: {error.strerror or error}"}
            return
        if file.begins > 0:  # silence goes before: results of versions that had none are other ones
            file.description["begins"] = round(file.begins, 3)
        if (known := self.cache.get(file.description)) is not None:
            file.result = known | {"cached": True}
            with contextlib.suppress(CacheError):  # what a death left beside it; who only reads a cache may
                self._clear(file)
            return
        file.died = deaths.setdefault(self.cache.path(file.description), self.cache.marks(file.description))
        if leave_deadly and file.died >= _DEADLY:
            file.result = {"deadly": True}
            return
        try:
            file.seconds = samples.promised_seconds(path)
        except MediaError as error:
            file.result = {"problem": str(error)}
            return
        pieces = self.cache.get(_pieces_of(file.description)) or {}
        file.kept = len(pieces)
        file.track = Track(path, vad.cut(audio.blocks(path, vad.BLOCK_SECONDS), self.detector), heard=pieces)
        self.cache.mark(file.description, file.died + 1)

    def _keep(self, file: _File, result: dict) -> None:
        """The end of a file: its result instead of its pieces."""
        if "problem" in result:  # a file that is mended has other bytes, a busy disk has not: it is tried again
            self._keep_pieces(file)
            self.cache.unmark(file.description)
        else:
            self.cache.put(file.description, result)
            self._clear(file)
        file.result, file.track = result | {"cached": False}, None

    def _clear(self, file: _File) -> None:
        """Takes away what its result replaces."""
        self.cache.discard(_pieces_of(file.description))
        self.cache.unmark(file.description)

    def _keep_pieces(self, file: _File) -> None:
        if file.track is not None and len(file.track.heard) > file.kept:
            of = _pieces_of(file.description)
            with _KEEPING:  # a copy of the file may be under way, with other pieces
                self.cache.put(of, (self.cache.get(of) or {}) | file.track.heard)
            file.kept = len(file.track.heard)

    def _unmark(self, file: _File) -> None:
        """This run did not die; those before it did."""
        if file.died:
            self.cache.mark(file.description, file.died)
        else:
            self.cache.unmark(file.description)

    def _finished(self, file: _File) -> dict:
        """The result with what AST hears in its segments, on the clip's clock."""
        result = file.result or {}
        try:
            if self.ast and result.get("segments"):
                result["sounds"] = self._sounds(file.path, file.description, result["segments"])
        except (ModelError, CacheError):
            raise
        except Exception as error:  # one odd file is not to stop the others
            return {"problem": runners.reason_of(error)}
        _shift(result, min(0.0, file.begins))
        return result

    def _description(self, path: str) -> dict:
        """Everything that the result depends on; not batch size, device and precision.

        They move what is decoded greedily by rounding. A piece that is decoded again, at a temperature, draws its
        tokens together with its batch: another batch gives other text, of which none is better.
        """
        return {
            "version": _VERSIONS[self.engine],
            "content": file_digest(path),
            "engine": self.engine,
            "model": self.model_identity,
            "language": self.language,
            "vad": self.detector,
        }

    def _sounds(self, path: str, description: dict, segments: Sequence[dict]) -> list[dict]:
        """Speech and music of each segment, from the cache or from the sound, decoded once more."""
        times = [[segment["start"], segment["end"]] for segment in segments]
        description = description | {"ast": self.ast_identity, "segments": times}
        if (known := self.cache.get(description)) is not None:
            return known["sounds"]
        cuts: dict[int, np.ndarray] = {}  # by number of the segment
        offset = 0.0
        for block in audio.blocks(path, vad.BLOCK_SECONDS):
            seconds = len(block) / audio.SAMPLE_RATE
            for number, segment in enumerate(segments):
                if number not in cuts and segment["start"] < offset + seconds:
                    start, end = segment["start"] - offset, min(segment["end"] - offset, seconds)
                    end = min(end, start + sounds.WINDOW_SECONDS)  # what is heard: a copy, so that the block can go
                    cuts[number] = block[int(start * audio.SAMPLE_RATE) : int(end * audio.SAMPLE_RATE)].copy()
            offset += seconds
        chances = self._classes()([cuts[number] for number in range(len(segments))])
        self.cache.put(description, {"sounds": chances})
        return chances

    def _engine(self) -> whisper.Engine:
        if "engine" not in self._loaded:
            of = (self.engine, self.model, self.batch_size, self.language)
            self._loaded["engine"] = _load(whisper.load, *of)
        return self._loaded["engine"]

    def _classes(self) -> sounds.SoundClasses:
        if "classes" not in self._loaded:
            self._loaded["classes"] = _load(sounds.SoundClasses, self.ast)
        return self._loaded["classes"]


def in_own_process(task: Recognise, paths: Sequence[str]) -> Iterator[tuple[str, dict]]:
    """Each path with its result, heard in another process: where that dies, with a problem. Raises ModelError."""
    with runners.Local(1, None) as runner:
        for path, answer in zip(paths, runner.run(task, [[path] for path in paths]), strict=True):
            if isinstance(answer, Stop):
                raise ModelError(answer.reason)
            yield path, {"problem": answer.reason} if isinstance(answer, runners.Failure) else answer[0]


def _wait_for(futures: Set[Future]) -> None:
    """Until all have ended. Ctrl-C is raised after that: what is being heard, or written, would be lost."""
    waiting, interrupted = futures, False
    while waiting:
        try:
            waiting = wait(waiting).not_done
        except KeyboardInterrupt:
            _log.warning(_ENDING)
            interrupted = True
    if interrupted:
        raise KeyboardInterrupt


def _load(make, *arguments):
    try:
        return make(*arguments)
    except ValueError as error:
        raise ModelError(str(error)) from error


def _pieces_of(description: dict) -> dict:
    """What was heard of a file that was not heard to its end."""
    return description | {"pieces": True}


def _shift(result: dict, seconds: float) -> None:
    """Moves the times of a result: those of the track's samples become those of the clip."""
    if not seconds or "segments" not in result:
        return
    for segment in result["segments"]:
        segment |= {name: round(segment[name] + seconds, 3) for name in ("start", "end")}
    if result["voices"] is not None:
        result["voices"] = [[start + seconds, end + seconds] for start, end in result["voices"]]
