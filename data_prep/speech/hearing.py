"""Tracks to what is said in them: cut at silences, heard piece by piece, put together again with times of the track.

One block of a track is heard at a time, so that hours of sound take no more than minutes: some 120 MB a file while it
is heard, and 205 MB at most while its next block is read.
"""

import dataclasses
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Executor, as_completed

import numpy as np

from data_prep.media import audio
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
    begin: float = 0.0  # of this block, in seconds, and its end
    end: float = 0.0
    pieces: int = 0  # of this block, and how many of them are still to be heard
    waiting: int = 0
    at_end: bool = False  # no block follows

    @property
    def done(self) -> bool:
        return not self.waiting and (self.at_end or bool(self.problem))

    @property
    def heard_up_to(self) -> float:
        """Seconds; as if the pieces of a block, of which the longest come first, had come in order."""
        share = 1 - self.waiting / self.pieces if self.pieces else 1.0
        return self.begin + share * (self.end - self.begin)

    @property
    def seconds_kept(self) -> float:
        """Of the pieces whose words are there."""
        return sum(int(name.partition("+")[2]) for name in self.heard) / audio.SAMPLE_RATE

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
    begun, and `Stopped` is raised when those under way are heard. `tell(track)`: more of it is heard.
    """

    engine: Callable[[], whisper.Engine]
    language: str
    stop: threading.Event
    tell: Callable[[Track], None]
    pool: Executor | None = None

    def block(self, tracks: Sequence[Track]) -> Generator[Track]:
        """Hears one more block of each track, and yields those that are done, as soon as they are."""
        first, rest = [], []
        for track in tracks:
            self._check()
            pieces = sorted(_next_pieces(track), key=lambda piece: -piece.seconds)
            track.pieces = track.waiting = len(pieces)
            if track.done:
                yield track
                continue
            if pieces and not (track.language or self.language):
                first.append((track, pieces.pop(0)))  # short pieces mislead: the longest says the language
            rest += [(track, piece) for piece in pieces]
            self.tell(track)
        for jobs in (first, rest):
            for batch in self._hear(jobs):
                for job, said in batch:
                    _take(job, said)
                    self.tell(job[0])
                # All of the batch is noted by now: who closes this generator loses nothing of it.
                yield from {id(track): track for (track, _), _ in batch if track.done}.values()

    def _hear(self, jobs: Sequence[Job]) -> Generator[list[tuple[Job, whisper.Recognised | Problem]]]:
        """The pieces with what is said in them, a batch at a time, as soon as it is heard."""
        new = []
        for track, piece in jobs:
            known = track.heard.get(_name(piece))
            if known is None:
                new.append((track, piece))
            else:
                segments = [Segment(**segment) for segment in known["segments"]]
                yield [((track, piece), whisper.Recognised(known["language"], segments, known["sure"]))]
        if not new:
            return
        if self.pool is None:
            size = self.engine().batch
            for start in range(0, len(new), size):
                batch = new[start : start + size]
                yield list(zip(batch, self._in_their_languages(batch), strict=True))
            return
        waiting = {self.pool.submit(self._in_their_languages, [job]): job for job in new}
        stopped = False
        for future in as_completed(waiting):
            try:
                [said] = future.result()
            except Stopped:  # others are under way still: they are not to be lost
                stopped = True
            else:
                yield [(waiting[future], said)]
        if stopped:
            raise Stopped

    def _in_their_languages(self, jobs: Sequence[Job]) -> list[whisper.Recognised | Problem]:
        """One for each piece; those of a track that has a problem by now are not heard.

        A language other than the file's that is in doubt is heard again as the file's.
        """
        self._check()
        if any(track.problem for track, _ in jobs):
            well = iter(self._in_their_languages([job for job in jobs if not job[0].problem]))
            return [Problem(track.problem) if track.problem else next(well) for track, _ in jobs]
        engine, pieces = self.engine(), [piece.samples for _, piece in jobs]
        self._check()  # once more: weights take long to load
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
    track.begin, track.end = track.end, cut.end
    track.sound = True
    track.voices = None if cut.voices is None else [*(track.voices or ()), *map(list, cut.voices)]
    return cut.pieces


def _name(piece: vad.Piece) -> str:
    return f"{piece.start:.4f}+{len(piece.samples)}"


def _take(job: Job, said: whisper.Recognised | Problem) -> None:
    """Notes what is said in a piece with its track."""
    track, piece = job
    track.waiting -= 1
    if isinstance(said, Problem):
        track.problem = track.problem or said.reason
        return
    track.heard[_name(piece)] = dataclasses.asdict(said)
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
