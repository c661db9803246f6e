"""Files of one's own → clips as shards hold them. The only file of this room that needs preparation (extra `prep`)."""

import collections
import concurrent.futures
import dataclasses
import importlib.util
import os
import unicodedata
from collections.abc import Iterator, Mapping, Sequence

from save_jax.data.records import Clip

AHEAD = 16  # clips decoded ahead, under a megabyte each
THREADS = 4  # decoders let go of Python's lock


def require_prep() -> None:
    """Raises ValueError with the command to run where packages that decode media are missing or of a wrong version."""
    if missing := [name for name in ("av", "kaldi_native_fbank") if importlib.util.find_spec(name) is None]:
        raise ValueError(
            f"embedding video files needs {' and '.join(missing)}: pip install 'save_jax[prep]', or in a checkout "
            "pip install -c constraints.txt -e '.[prep]'"
        )
    from data_prep.media import audio

    audio.check_library()


def match_transcripts(paths: Sequence[str], transcripts: Mapping[str, str] | Sequence[str] | None) -> list[str | None]:
    """The transcript of each file, None where none is given. Raises ValueError for transcripts of no file."""
    if transcripts is None:
        return [None] * len(paths)
    if isinstance(transcripts, Mapping):
        given = {_name(name): text for name, text in transcripts.items()}
        if unknown := sorted(given.keys() - set(map(_name, paths))):
            raise ValueError(f"transcripts of files that are not among the videos: {', '.join(unknown[:3])}")
        return [given.get(_name(path)) for path in paths]
    if isinstance(transcripts, str) or len(transcripts) != len(paths):
        raise ValueError(f"{len(transcripts)} transcripts for {len(paths)} videos; give one for each, or a dictionary")
    return list(transcripts)


def _name(path: str | os.PathLike) -> str:
    """What spellings of one path have in common; macOS writes é as two characters."""
    return unicodedata.normalize("NFC", os.path.normpath(os.fspath(path)))


def read_clips(
    paths: Sequence[str],
    transcripts: Sequence[str | None],
    image_size: int,
    max_frames: int,
    sounds: Sequence[str | None] | None = None,
) -> Iterator[Clip]:
    """A clip for each file, in their order; `failed` says why one has no pictures.

    Args:
        transcripts: of each file; None: subtitles beside it or inside it are read.
        sounds: the file that the sound of each is read from; None: the video itself; "": nothing is heard.
    """
    require_prep()
    from data_prep import clip
    from data_prep.corpora import Sample
    from data_prep.corpora.folder import subtitles_of
    from data_prep.runners import reason_of
    from data_prep.speech import subtitles

    beside = collections.defaultdict(list)
    for folder in {os.path.dirname(path) or "." for path in paths}:
        if os.path.isdir(folder):
            names = sorted(os.listdir(folder))
            beside[folder] = [name for name in names if os.path.splitext(name)[1].lower() in subtitles.FORMATS]
    # A path without a folder stands for one in the current folder.
    full = {path: path if os.path.dirname(path) else os.path.join(".", path) for path in paths}
    own = subtitles_of(full.values(), beside)
    settings = {"image_size": image_size, "max_frames": max_frames, "frames": "jpeg"}

    def read(path: str, transcript: str | None, sound: str | None) -> Clip:
        sample = Sample(
            id=path,
            split="test",
            video=path,
            captions=[],
            groups=[],
            transcript=transcript or "",
            tags=[],
            audio=sound or None,
            teacher_video=None,
            teacher_audio=None,
            subtitles=own.get(full[path], None if os.path.isdir(path) else path) if transcript is None else None,
        )
        try:
            if not os.path.exists(path):
                raise ValueError("no such file")
            made = clip.prepare(sample, settings)
            return dataclasses.replace(made, fbank=None) if sound == "" else made
        except Exception as error:  # whatever is wrong with one file, the others go on
            reason = reason_of(error)
            return clip.failed(sample, reason if path in reason else f"{path}: {reason}")

    waiting: collections.deque[concurrent.futures.Future] = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        for path, transcript, sound in zip(paths, transcripts, sounds or [None] * len(paths), strict=True):
            waiting.append(pool.submit(read, path, transcript, sound))
            if len(waiting) > AHEAD:  # no more clips in memory than that, however slowly they are encoded
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
