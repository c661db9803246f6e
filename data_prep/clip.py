"""One sample → one record: pictures, sound, transcript and teacher vectors. This is the work of a build's workers.

A clip fails without pictures; in a corpus of sounds, without sound. Anything else that is broken is left out, and a
note says why. A note also says what was guessed, such as which of several tracks is meant.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from data_prep.corpora import Sample
from data_prep.media import audio, spectrogram, video
from data_prep.media.decode import MediaError
from data_prep.runners import reason_of
from data_prep.speech import subtitles
from data_prep.teachers import vectors
from save_jax.data import records

Prepare = Callable[[Sample, Mapping], records.Clip]


@dataclasses.dataclass(frozen=True)
class Task:
    """What a worker does with each sample. Raises ValueError where a text is needed and there is none."""

    function: Prepare
    settings: Mapping
    needs_captions: bool

    def __call__(self, sample: Sample) -> records.Clip:
        if self.needs_captions and not sample.captions:
            raise ValueError(f"no caption is left ({sample.empty_captions} empty ones were dropped)")
        return self.function(sample, self.settings)


def prepare(sample: Sample, settings: Mapping) -> records.Clip:
    """Decodes everything of a sample. Raises ValueError where a clip must fail: see above.

    `settings`: image_size, max_frames, frames ("jpeg" or "raw"); spectrogram, true where it is to be stored.
    """
    notes: list[str] = []

    def telling(what: str) -> Callable[[str], None]:
        return lambda line: notes.append(f"{what}: {line}")

    def kept(what: str, read: Callable[[str], Any], path: str | None) -> Any:
        """The result of `read`; None, with a note, if it fails."""
        try:
            return read(path) if path else None
        except Exception as error:  # a clip that lacks this alone is worth keeping
            notes.append(f"{what}: {reason_of(error)}")
            return None

    def pictures(path: str) -> tuple[list[bytes], np.ndarray]:
        raw = settings["frames"] == "raw"
        size, most = settings["image_size"], settings["max_frames"]
        return video.read_frames(path, size, most, raw, telling("pictures"))

    def sound(path: str) -> dict[str, Any]:
        """What the models hear of one file; a folder of pictures has no sound."""
        if os.path.isdir(path):
            return {}
        heard = {"fbank": audio.read_fbank(path, telling("sound"))}
        return heard | ({"spectrogram": spectrogram.read_spectrogram(path)} if settings.get("spectrogram") else {})

    def words(path: str) -> tuple[str, dict]:
        return subtitles.read(path, sample.video or sample.audio, telling("subtitles"))

    if sample.is_sound:
        frames, times = kept("pictures", pictures, sample.video) or ([], np.zeros(0, np.float32))
    else:
        assert sample.video is not None  # else it is a sound
        frames, times = pictures(sample.video)
    said = kept("subtitles", words, None if sample.transcript else sample.subtitles)
    if said and (reason := subtitles.nobody_speaks(said[1])):
        notes.append(f"subtitles: {sample.subtitles}: {reason}")
    transcript, speech = said if said and said[0] else (sample.transcript, sample.speech or (said[1] if said else {}))
    track = sample.audio or sample.video
    if sample.is_sound:
        assert track is not None  # every sample has one of the two
        heard = sound(track)
        if heard.get("fbank") is None:
            raise MediaError(f"{track}: no sound, which is what this corpus is about")
    else:
        heard = kept("sound", sound, track) or {}
    taught = sample.split == "train"  # only training reads teachers
    made = _texts(sample) | {"transcript": transcript, "speech": speech, "fbank": None} | heard
    return records.Clip(
        **made,
        frames=frames,
        frame_times=times,
        teacher_video=kept("teacher", vectors.read_vector, sample.teacher_video if taught else None),
        teacher_audio=kept("teacher", vectors.read_vector, sample.teacher_audio if taught else None),
        notes=notes,
    )


def failed(sample: Sample, reason: str) -> records.Clip:
    """The record of a clip that could not be prepared: its texts, and why."""
    return records.Clip(
        **_texts(sample),
        frames=[],
        frame_times=np.zeros(0, np.float32),
        fbank=None,
        teacher_video=None,
        teacher_audio=None,
        failed=reason,
    )


def _texts(sample: Sample) -> dict[str, Any]:
    return {name: getattr(sample, name) for name in ("id", "captions", "groups", "transcript", "tags", "speech")}
