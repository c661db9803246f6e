"""One sample to one clip: the work that a worker process does, and the pool that outlives its workers."""

import collections
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from typing import Any

import loky
import numpy as np
from loky.process_executor import BrokenProcessPool

from data_prep import audio, video
from data_prep.corpora import Sample
from data_prep.teachers import vectors
from save_jax.data import records

Prepare = Callable[[Sample, Mapping], records.Clip]
_IN_FLIGHT = 4  # tasks per worker: enough that none waits, and few clips in memory


def prepare(sample: Sample, settings: Mapping) -> records.Clip:
    """Decodes everything of a sample. Raises ValueError for media it cannot use.

    `settings`: image_size, max_frames, frames ("jpeg" or "raw").
    """
    if not sample.captions:
        raise ValueError(f"no caption is left ({sample.empty_captions} empty ones were dropped)")
    frames, times = video.read_frames(
        sample.video, settings["image_size"], settings["max_frames"], raw=settings["frames"] == "raw"
    )
    samples = audio.waveform(sample.audio or sample.video)
    taught = sample.split == "train"  # only training reads teachers: a broken one must not cost a gallery its clip
    return _clip(
        sample,
        frames=frames,
        frame_times=times,
        fbank=None if samples is None else audio.fbank(samples),
        teacher_video=vectors.read_vector(sample.teacher_video) if taught and sample.teacher_video else None,
        teacher_audio=vectors.read_vector(sample.teacher_audio) if taught and sample.teacher_audio else None,
    )


def failed(sample: Sample, reason: str) -> records.Clip:
    """The record of a clip that could not be prepared: its texts, and why."""
    return _clip(
        sample,
        frames=[],
        frame_times=np.zeros(0, np.float32),
        fbank=None,
        teacher_video=None,
        teacher_audio=None,
        failed=reason,
    )


def _clip(sample: Sample, **media) -> records.Clip:
    return records.Clip(
        id=sample.id,
        captions=sample.captions,
        groups=sample.groups,
        transcript=sample.transcript,
        tags=sample.tags,
        speech=sample.speech,
        **media,
    )


def _attempt(function: Callable, settings: Mapping, sample: Sample) -> Any:
    try:
        return function(sample, settings)
    except ValueError as error:
        return failed(sample, str(error))
    except Exception as error:  # one odd file among ten thousand must not stop hours of work; its reason is kept
        return failed(sample, f"{type(error).__name__}: {error}")


class Workers:
    """A pool of processes that prepare samples. One that dies (a crash in a decoder, no memory) costs one clip."""

    def __init__(self, jobs: int):
        self._jobs = jobs
        self._pool = loky.ProcessPoolExecutor(jobs)

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_) -> None:
        self._pool.shutdown(kill_workers=True)

    def run(self, function: Prepare, samples: Iterable[Sample], settings: Mapping) -> Iterator[records.Clip]:
        """The clips that `function` makes of the samples, in order; a failure is a clip with its `failed` reason."""
        task = functools.partial(_attempt, function, settings)
        waiting, samples = collections.deque(), iter(samples)
        while True:
            while len(waiting) < _IN_FLIGHT * self._jobs and (sample := next(samples, None)) is not None:
                waiting.append((sample, self._submit(task, sample)))
            if not waiting:
                return
            sample, future = waiting.popleft()
            if _survived(future):
                yield future.result()
                continue
            # A death breaks the whole pool and does not say whose it was: what was under way runs again, one at a time,
            # once all of it has settled, so that a second death has one possible cause.
            settled = [(suspect, result, _survived(result)) for suspect, result in [(sample, future), *waiting]]
            waiting.clear()
            for suspect, result, survived in settled:
                yield result.result() if survived else self._alone(task, suspect)

    def _alone(self, task: Callable, sample: Sample) -> records.Clip:
        future = self._submit(task, sample)
        if _survived(future):
            return future.result()
        return failed(sample, f"the worker process died on this clip ({str(future.exception()).splitlines()[-1]})")

    def _submit(self, task: Callable, sample: Sample) -> Future:
        try:
            return self._pool.submit(task, sample)
        except BrokenProcessPool:
            self._pool = loky.ProcessPoolExecutor(self._jobs)
            return self._pool.submit(task, sample)


def _survived(future: Future) -> bool:
    """Waits for the task; False if its pool broke under it."""
    return not isinstance(future.exception(), BrokenProcessPool)
