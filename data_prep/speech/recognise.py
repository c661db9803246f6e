"""Sound files to raw recognised speech: decoded, cut at silences, transcribed in batches, kept in the cache.

This is the task that a worker runs. In: paths of a group of files; out: for each what Whisper said with its measures,
before any filter, as plain data that JSON can hold.
"""

import collections
import contextlib
import dataclasses
import os
import threading
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import numpy as np

from data_prep.media import audio, samples
from data_prep.media.opening import MediaError
from data_prep.runners import reason_of
from data_prep.speech import sounds, vad, whisper
from data_prep.speech.cache import Cache, file_digest

# Raise it when the same sound and settings are to give another result.
_VERSIONS = {"transformers": 4, "faster-whisper": 3}

# A piece this long says its own language where the model is that sure; a shorter one, or a doubt, has the file's. Of
# 36 telephone prompts in English and 36 in French of 2 s and more, Whisper base told all, with 0.83 and more.
_OWN_LANGUAGE_SECONDS, _SURE = 5.0, 0.8
_LOADING = threading.Lock()  # files are heard side by side, and share the weights


Job = tuple[str, vad.Piece]  # a piece and the path of its file


@dataclasses.dataclass(frozen=True)
class Problem:
    """In place of what is said in a piece at which the recogniser fails."""

    reason: str


@dataclasses.dataclass(frozen=True)
class Stop:
    """Returned in place of results where no clip can be done: the model does not load."""

    reason: str


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
        """Files of a group: what the engine hears at once."""
        return self.batch_size if self.engine == "transformers" else whisper.cores()

    def __call__(self, paths: Sequence[str]) -> list[dict] | Stop:
        results, descriptions, begins = {}, {}, {}
        try:
            for path in paths:
                if os.path.isdir(path):  # pictures without a sound file
                    results[path] = _nothing() | {"sound": False, "cached": True}
                    continue
                try:
                    descriptions[path] = self._description(path)
                    begins[path] = samples.begin(path)
                except MediaError as error:
                    results[path] = {"problem": str(error)}
                    continue
                except OSError as error:
                    results[path] = {"problem": f"{path}: {error.strerror or error}"}
                    continue
                if begins[path] > 0:  # silence goes before: results of versions that had none are other ones
                    descriptions[path]["begins"] = round(begins[path], 3)
                if (known := self.cache.get(descriptions[path])) is not None:
                    results[path] = known | {"cached": True}
            with contextlib.closing(self._heard([path for path in paths if path not in results])) as heard:
                for path, result in heard:
                    if "problem" not in result:  # a file that is mended has other bytes, a busy disk has not: try again
                        self.cache.put(descriptions[path], result)
                    results[path] = result | {"cached": False}
            for path, result in results.items():
                if self.ast and result.get("segments"):
                    result["sounds"] = self._sounds(path, descriptions[path], result["segments"])
                _shift(result, min(0.0, begins.get(path, 0.0)))
        except ModelError as error:
            return Stop(str(error))
        return [results[path] for path in paths]

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

    def _heard(self, paths: Sequence[str]) -> Generator[tuple[str, dict]]:
        """Each file with its result, as soon as it is there. Closed early, it ends within a piece of each file."""
        stop = threading.Event()
        if self.engine == "transformers":  # which takes pieces of several files in one batch
            yield from self._transcribe(paths, stop)
            return
        with ThreadPoolExecutor(self.group) as pool:
            waiting = [pool.submit(lambda path: dict(self._transcribe([path], stop)), path) for path in paths]
            try:
                for done in as_completed(waiting):
                    yield from done.result().items()
            finally:
                stop.set()
                pool.shutdown(cancel_futures=True)

    def _transcribe(self, paths: Sequence[str], stop: threading.Event) -> Generator[tuple[str, dict]]:
        """Each file with its result, as soon as its last piece was heard, so that a stop loses those under way alone.

        Block by block, so that a long file never has more than a block in memory; a block of each file at a time.
        Whatever is wrong with one file, its neighbours go on.
        """
        results = {path: _nothing() for path in paths}  # of files that are under way
        cuts = {path: vad.cut(audio.blocks(path, vad.BLOCK_SECONDS), self.detector) for path in results}
        while results:
            first, rest = [], []
            for path in list(cuts):
                _check(stop)
                result = results[path]
                try:
                    cut = next(cuts[path], None)
                except Exception as error:
                    results[path], cut = {"problem": _reason(error)}, None
                if cut is None or cut.last:
                    del cuts[path]
                if cut is None:
                    continue
                result["sound"] = True
                result["voices"] = None if cut.voices is None else [*(result["voices"] or ()), *map(list, cut.voices)]
                pieces = sorted(cut.pieces, key=lambda piece: -piece.seconds)
                if pieces and not (result["language"] or self.language):
                    first.append((path, pieces.pop(0)))  # short pieces mislead: the longest says the language
                rest += [(path, piece) for piece in pieces]
            left = collections.Counter(path for path, _ in [*first, *rest])
            for path in [path for path in results if path not in cuts and not left[path]]:
                yield path, _in_order(results.pop(path))
            for jobs in (first, rest):
                for path, piece, heard in self._hear(jobs, results, stop):
                    if path not in results:  # a piece before this one had a problem
                        continue
                    left[path] -= 1
                    if isinstance(heard, Problem):
                        cuts.pop(path, None)
                        results.pop(path)
                        yield path, {"problem": heard.reason}
                        continue
                    _add(results[path], piece, heard)
                    if path not in cuts and not left[path]:
                        yield path, _in_order(results.pop(path))

    def _hear(
        self, jobs: Sequence[Job], results: Mapping[str, dict], stop: threading.Event
    ) -> Generator[tuple[str, vad.Piece, whisper.Recognised | Problem]]:
        """Each piece of the files in `results` with what is said in it, batch by batch."""
        if not jobs:
            return
        engine = self._engine()
        for first in range(0, len(jobs), engine.batch):
            _check(stop)
            batch = [job for job in jobs[first : first + engine.batch] if job[0] in results]
            heard = self._in_their_languages(engine, batch, results)
            yield from ((path, piece, one) for (path, piece), one in zip(batch, heard, strict=True))

    def _in_their_languages(
        self, engine: whisper.Engine, jobs: Sequence[Job], results: Mapping[str, dict]
    ) -> list[whisper.Recognised | Problem]:
        """One for each piece. A language other than the file's that is in doubt is heard again as the file's."""
        pieces = [piece.samples for _, piece in jobs]
        of_files = [self.language or results[path]["language"] for path, _ in jobs]
        own = [not self.language and piece.seconds >= _OWN_LANGUAGE_SECONDS for _, piece in jobs]
        asked = ["" if alone else code for alone, code in zip(own, of_files, strict=True)]
        heard = list(_heard_or_problems(engine, pieces, asked))
        doubtful = [
            number
            for number, (said, code) in enumerate(zip(heard, of_files, strict=True))
            if not isinstance(said, Problem) and code and said.language != code and said.sure < _SURE
        ]
        if doubtful:
            again = _heard_or_problems(engine, [pieces[k] for k in doubtful], [of_files[k] for k in doubtful])
            for number, said in zip(doubtful, again, strict=True):
                heard[number] = said
        return heard

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
        with _LOADING:
            if "engine" not in self._loaded:
                of = (self.engine, self.model, self.batch_size, self.language)
                self._loaded["engine"] = _load(whisper.load, *of)
        return self._loaded["engine"]

    def _classes(self) -> sounds.SoundClasses:
        if "classes" not in self._loaded:
            self._loaded["classes"] = _load(sounds.SoundClasses, self.ast)
        return self._loaded["classes"]


class ModelError(ValueError):
    """Weights that do not load: no clip can be done."""


def _load(make, *arguments):
    try:
        return make(*arguments)
    except ValueError as error:
        raise ModelError(str(error)) from error


def _heard_or_problems(
    engine: whisper.Engine, waveforms: Sequence[np.ndarray], languages: Sequence[str]
) -> Sequence[whisper.Recognised | Problem]:
    """A batch that fails is heard piece by piece: the one that it fails at is alone in having a problem."""
    if not waveforms:
        return []
    try:
        return engine.transcribe(waveforms, languages)
    except Exception as error:
        if len(waveforms) == 1:
            return [Problem(_reason(error))]
    return [
        one
        for waveform, language in zip(waveforms, languages, strict=True)
        for one in _heard_or_problems(engine, [waveform], [language])
    ]


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, MediaError) else reason_of(error)


def _check(stop: threading.Event) -> None:
    if stop.is_set():
        raise InterruptedError("stopped")


def _add(result: dict, piece: vad.Piece, heard: whisper.Recognised) -> None:
    """Adds what is said in a piece to the result of its file."""
    result["language"] = result["language"] or heard.language
    other = heard.language if heard.language != result["language"] else ""
    result["segments"] += [
        dataclasses.asdict(segment)
        | {"start": round(segment.start + piece.start, 3), "end": round(segment.end + piece.start, 3)}
        | {"language": other}
        for segment in heard.segments
    ]


def _in_order(result: dict) -> dict:
    if "problem" not in result:
        result["segments"].sort(key=lambda segment: segment["start"])
    return result


def _shift(result: dict, seconds: float) -> None:
    """Moves the times of a result: those of the track's samples become those of the clip."""
    if not seconds or "problem" in result:
        return
    for segment in result["segments"]:
        segment |= {name: round(segment[name] + seconds, 3) for name in ("start", "end")}
    if result["voices"] is not None:
        result["voices"] = [[start + seconds, end + seconds] for start, end in result["voices"]]


def _nothing() -> dict:
    return {"language": "", "sound": False, "voices": None, "segments": [], "sounds": None}
