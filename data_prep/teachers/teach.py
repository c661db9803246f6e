"""The work of `data_prep.teach`: the vectors of each clip, computed by workers and written to their folder."""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from data_prep import runners
from data_prep.corpora import Sample
from data_prep.files import write_json
from data_prep.teachers import sampling
from data_prep.teachers.folder import FAILED, PICTURES, SOUNDS, read_failed, save_vector, vector_path
from data_prep.teachers.teacher import Teacher
from save_jax.data.records import TEACHER_DIM


@dataclasses.dataclass
class Teach:
    """The task of one worker: a sample's vectors, written to their files."""

    teacher: Teacher
    folder: str

    def __call__(self, sample: Sample) -> str:
        """Returns what is wrong with the sound, "" if nothing is; the vector of the pictures is written all the same.

        Raises ValueError (MediaError) for pictures it cannot use and for vectors that no shard could hold.
        """
        if sample.video is None:
            raise ValueError("a sound without pictures: teachers are for corpora of videos")
        picture_path, sound_path = (vector_path(self.folder, kind, sample.id) for kind in (PICTURES, SOUNDS))
        pictures = sampling.evenly_spaced(sample.video, self.teacher.frames, self.teacher.fit)
        wrong, heard = "", None
        try:
            heard = sampling.sounds(sample.audio or sample.video, self.teacher.sample_rate, self.teacher.hears)
        except Exception as error:  # whatever is wrong with its sound, the pictures are worth keeping
            wrong = runners.reason_of(error)
        vectors = self.teacher.embed(pictures, heard)
        for vector in vectors:
            if vector is not None and (vector.shape != (TEACHER_DIM,) or not np.isfinite(vector).all()):
                raise ValueError(
                    f"{self.teacher.name} gave {vector.shape} values, {np.count_nonzero(~np.isfinite(vector))} of them "
                    f"not finite, not ({TEACHER_DIM},) finite ones"
                )
        if vectors.sound is not None:
            save_vector(sound_path, vectors.sound)
        save_vector(picture_path, vectors.picture)  # last: a clip with this file is done, with sound or without
        return wrong


def teach(task: Teach, samples: Sequence[Sample], runner: Any) -> tuple[dict[str, str], dict[str, str]]:
    """Writes what is missing, and what failed.json lists of an earlier run, which it then writes anew.

    Returns id → reason of the clips that failed, and of those whose sound alone could not be used.
    """
    failed, mute, waiting = {}, {}, []
    path = os.path.join(task.folder, FAILED)
    before = read_failed(path)
    for sample in samples:
        try:
            if sample.id in before or not os.path.exists(vector_path(task.folder, PICTURES, sample.id)):
                waiting.append(sample)
        except ValueError as error:
            failed[sample.id] = str(error)
    results: Iterator[runners.Failure | str] = runner.run(task, waiting)
    try:
        for sample, result in zip(tqdm(waiting, unit="clip", disable=not waiting), results, strict=True):
            before.pop(sample.id, None)
            if isinstance(result, runners.Failure):
                failed[sample.id] = result.reason
            elif result:
                mute[sample.id] = result
    finally:  # stopped: what is not tried yet stays listed, and of clips without sound nothing else would tell
        write_json(path, before | failed | {clip_id: f"sound: {reason}" for clip_id, reason in mute.items()})
    return failed, mute
