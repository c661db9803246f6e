"""Tracks to what is said in them: cut at silences, heard piece by piece, put together again with times of the track.

One block of a track is in memory at a time, so that hours of sound take no more than minutes.
"""

import dataclasses
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Executor, as_completed

import numpy as np

from data_prep.media.opening import MediaError
from data_prep.runners import reason_of
from data_prep.speech import vad, whisper
from data_prep.speech.filters import Segment

# A piece this long says its own language where the model is that sure; a shorter one, or a doubt, has the file's. Of
# 36 telephone prompts in English and 36 in French of 2 s and more, Whisper base told all, with 0.83 and more.
_OWN_LANGUAGE_SECONDS, _SURE = 5.0, 0.8


class Stopped(Exception):
    """The run is to end."""


class ModelError(ValueError):
    """Weights that do not load: no clip can be done."""


@dataclasses.dataclass(frozen=True)
class Problem:
    """In place of what is said in a piece at which the recogniser fails."""

    reason: str


@dataclasses.dataclass
class Track:
    """The sound of one file, on its way."""

    path: str
    cuts: Iterator[vad.Cut]
    language: str = ""  # "": not known yet
    heard: dict[str, dict] = dataclasses.field(default_factory=dict)  # fields of Recognised by piece, earlier runs' too
    sound: bool = False
    voices: list[list[float]] | None = None
    segments: list[dict] = dataclasses.field(default_factory=list)
    problem: str = ""
    waiting: int = 0  # pieces of this block that are still to be heard
    at_end: bool = False  # no block follows

    @property
    def done(self) -> bool:
        return bool(self.problem) or (self.at_end and not self.waiting)

    @property
    def result(self) -> dict:
        """As `Recognise` gives it."""
        if self.problem:
            return {"problem": self.problem}
        segments = sorted(self.segments, key=lambda segment: segment["start"])
        return nothing() | {
            "language": self.language,
            "sound": self.sound,
            "voices": self.voices,
            "segments": segments,
        }


Job = tuple[Track, vad.Piece]


def nothing() -> dict:
    return {"language": "", "sound": False, "voices": None, "segments": [], "sounds": None}


@dataclasses.dataclass
class Hearing:
    """Hears tracks with one engine. `language`: of all of them; "" detects it.

    `pool`: where pieces are heard side by side, of an engine that takes one at a time. `stop`: set, no further piece is
    begun, and `Stopped` is raised when those under way are heard. `tell(track, seconds)`: heard up to there.
    """

    engine: Callable[[], whisper.Engine]
    language: str
    stop: threading.Event
    tell: Callable[[Track, float], None]
    pool: Executor | None = None

    def block(self, tracks: Sequence[Track]) -> Generator[Track]:
        """Hears one more block of each track, and yields those that are done, as soon as they are."""
        first, rest = [], []
        for track in tracks:
            self._check()
            pieces = sorted(_next_pieces(track), key=lambda piece: -piece.seconds)
            track.waiting = len(pieces)
            if track.done:
                yield track
            elif pieces and not (track.language or self.language):
                first.append((track, pieces.pop(0)))  # short pieces mislead: the longest says the language
            rest += [(track, piece) for piece in pieces]
        for jobs in (first, rest):
            for (track, piece), said in self._hear(jobs):
                if track.done:  # a piece before this one had a problem
                    continue
                track.waiting -= 1
                if isinstance(said, Problem):
                    track.problem = said.reason
                else:
                    track.heard[_name(piece)] = dataclasses.asdict(said)
                    _add(track, piece, said)
                    self.tell(track, piece.start + piece.seconds)
                if track.done:
                    yield track

    def _hear(self, jobs: Sequence[Job]) -> Generator[tuple[Job, whisper.Recognised | Problem]]:
        """Each piece with what is said in it, as soon as it is heard."""
        new = []
        for track, piece in jobs:
            known = track.heard.get(_name(piece))
            if known is None:
                new.append((track, piece))
            else:
                segments = [Segment(**segment) for segment in known["segments"]]
                yield (track, piece), whisper.Recognised(known["language"], segments, known["sure"])
        if not new:
            return
        if self.pool is None:
            size = self.engine().batch
            for start in range(0, len(new), size):
                batch = [job for job in new[start : start + size] if not job[0].problem]
                yield from zip(batch, self._in_their_languages(batch), strict=True)
            return
        waiting = {self.pool.submit(self._in_their_languages, [job]): job for job in new}
        stopped = False
        for future in as_completed(waiting):
            try:
                [said] = future.result()
            except Stopped:  # others are under way still: they are not to be lost
                stopped = True
            else:
                yield waiting[future], said
        if stopped:
            raise Stopped

    def _in_their_languages(self, jobs: Sequence[Job]) -> list[whisper.Recognised | Problem]:
        """One for each piece. A language other than the file's that is in doubt is heard again as the file's."""
        self._check()
        engine, pieces = self.engine(), [piece.samples for _, piece in jobs]
        of_files = [self.language or track.language for track, _ in jobs]
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

    def _check(self) -> None:
        if self.stop.is_set():
            raise Stopped


def _next_pieces(track: Track) -> list[vad.Piece]:
    """Of the next block; none where there is no further one, or it cannot be read."""
    try:
        cut = next(track.cuts, None)
    except Exception as error:  # whatever is wrong with one file, its neighbours go on
        track.problem = str(error) if isinstance(error, MediaError) else reason_of(error)
        return []
    track.at_end = cut is None or cut.last
    if cut is None:
        return []
    track.sound = True
    track.voices = None if cut.voices is None else [*(track.voices or ()), *map(list, cut.voices)]
    return cut.pieces


def _name(piece: vad.Piece) -> str:
    return f"{piece.start:.4f}+{len(piece.samples)}"


def _add(track: Track, piece: vad.Piece, said: whisper.Recognised) -> None:
    track.language = track.language or said.language
    other = said.language if said.language != track.language else ""
    track.segments += [
        dataclasses.asdict(segment)
        | {"start": round(segment.start + piece.start, 3), "end": round(segment.end + piece.start, 3)}
        | {"language": other}
        for segment in said.segments
    ]


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
            return [Problem(reason_of(error))]
    return [
        one
        for waveform, language in zip(waveforms, languages, strict=True)
        for one in _heard_or_problems(engine, [waveform], [language])
    ]
