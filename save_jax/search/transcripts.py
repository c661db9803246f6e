"""What is said in a file: subtitles beside it or inside it, else what a recogniser hears, else nothing."""

import dataclasses
import threading
from collections.abc import Callable

from data_prep.speech import filters, model_names, rows, subtitles, whisper
from data_prep.speech.cache import Cache, CacheError, model_identity
from data_prep.speech.hearing import ModelError
from data_prep.speech.recognise import Recognise, in_own_process
from save_jax.search.windows import Segment

ENGINE = "faster-whisper"


@dataclasses.dataclass(frozen=True)
class Spoken:
    """Segments in time order."""

    segments: list[Segment]
    source: str = ""
    language: str = ""
    heard: str = ""  # `Transcriber.recogniser`, where it was asked


class RecogniserError(RuntimeError):
    """The recogniser does not work at all; no file is at fault."""


class Transcriber:
    """`Transcriber(…)(file, subtitles, tell, stop)` → Spoken; `subtitles`: path of those beside the file, or "".

    `model`: of faster-whisper, "" to hear nothing. `recogniser` is that and the language it is told.
    `stop`: set by another thread, it ends when the pieces under way are heard and kept.
    Raises RecogniserError where the model does not load.
    """

    def __init__(self, model: str, cache: str, language: str = ""):
        """Raises ValueError, before any file is read, where the engine is not installed or the model not to be had."""
        self._task, self._turn = None, threading.Lock()
        self.recogniser = f"{model} {language}".strip() if model else ""
        if model:
            try:
                whisper.require(ENGINE, language)
                found = model_names.resolve(ENGINE, model)
                whisper.check(ENGINE, model_names.local_folder(ENGINE, found), language)
            except ValueError as error:  # written for `prep transcribe`
                told = str(error).replace("--model", "--speech").replace(", or take --engine transformers", "")
                raise ValueError(told) from error
            self._source = whisper.short_name(found, model_identity(found))
            self._task = Recognise(ENGINE, found, model_identity(found), Cache(cache), language=language)

    def __call__(
        self, path: str, beside: str, tell: Callable[[str], None], stop: threading.Event | None = None
    ) -> Spoken:
        try:
            _, about = subtitles.read(beside or path, path, tell)
        except ValueError as error:
            about = {}
            tell(f"subtitles: {error}")
        if about.get("segments"):
            return Spoken(_segments(about["segments"]), about.get("source", ""), about.get("language", ""))
        if self._task is None:
            return Spoken([])
        try:
            with self._turn:  # it uses all cores itself
                [(_, heard)] = self._task.stream([path], leave_deadly=True, stop=stop)
                if heard.get("deadly"):
                    [(_, heard)] = in_own_process(self._task, [path])
        except (ModelError, CacheError) as error:
            raise RecogniserError(str(error)) from error
        row = rows.make_row(path, self._source, heard, filters.Thresholds())
        if "problem" in row:
            tell(f"speech: {row['problem']}")
        return Spoken(_segments(row.get("segments", [])), self._source, row.get("language", ""), self.recogniser)


def _segments(parts: list[dict]) -> list[Segment]:
    return [{"start": float(part["start"]), "end": float(part["end"]), "text": part["text"]} for part in parts]
