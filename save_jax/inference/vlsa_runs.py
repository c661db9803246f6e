"""A finished run of VLSA, opened from its folder: searches its test split in each of its directions."""

import functools
import os

import numpy as np

from save_jax import sharding
from save_jax.config.vlsa import DIRECTIONS, NAMES
from save_jax.evaluation.contract import Trained
from save_jax.evaluation.vlsa import VlsaEvaluator, cosines
from save_jax.inference import runs
from save_jax.inference.runs import Hit
from save_jax.models.similarity import ABSENT
from save_jax.models.vlsa import make_model


class VlsaRun(Trained):
    """A trained VLSA with the shards it was made with: a sentence, a clip's picture or its sound is asked with."""

    evaluator: VlsaEvaluator

    @functools.cached_property
    def clips(self) -> dict[str, np.ndarray]:
        """Unit vectors "video" and "audio" of the test split, float32 [clips, d]; zero where a clip has none."""
        return self.evaluator.embed_videos(self.params, self.config.data.test_split)

    @functools.cached_property
    def captions(self) -> list[str]:
        """Of the test split, each once."""
        return list(dict.fromkeys(self.data.info(self.config.data.test_split).captions))

    @functools.cached_property
    def _texts(self) -> np.ndarray:
        return self.evaluator.embed_texts(self.params, self.captions)

    @property
    def directions(self) -> tuple[str, ...]:
        """What can be asked and found, such as "t2a"; texts can be found where the split has captions."""
        found = {name for name, x in self.clips.items() if x.any()} | ({"text"} if self.captions else set())
        asked = found | {"text"}
        pairs = {direction: NAMES[direction].split(" → ") for direction in DIRECTIONS}
        return tuple(direction for direction, (query, answer) in pairs.items() if query in asked and answer in found)

    def search(self, query: str, top: int = 5, direction: str = "t2v") -> list[Hit]:
        """What a query ranks first, best first, with its cosine; of equal ones the earlier.

        Args:
            query: a sentence; or, for directions from video and from audio, the id of a clip of the test split.
            top: how many at most. What cannot be found, such as the sound of a silent clip, is never among them.
            direction: of `directions`. A hit's `id` is a clip's, or a caption where texts are found.
        Raises:
            ValueError for a direction that this run does not rank, or a clip that is not there or lacks what is asked.
        """
        if direction not in self.directions:
            raise ValueError(
                f"{self.workdir} ranks {', '.join(self.directions)}; {direction!r} is none of them"
                + (" (after fine-tuning: the pairs that it names)" if direction in DIRECTIONS else "")
            )
        asked, found = NAMES[direction].split(" → ")
        if asked == "text":
            vector = self.evaluator.embed_texts(self.params, [query])
        else:
            vector = self.clips[asked][[self._number(query, asked)]]
        ids = self.data.sources[self.config.data.test_split].ids
        names, gallery = (self.captions, self._texts) if found == "text" else (ids, self.clips[found])
        [scores] = cosines(vector, gallery)
        best = [n for n in np.argsort(-scores, kind="stable")[: max(0, top)] if scores[n] > ABSENT]
        return [Hit(names[number], float(scores[number])) for number in best]

    def _number(self, clip: str, modality: str) -> int:
        split = self.config.data.test_split
        ids = list(self.data.sources[split].ids)
        if clip not in ids:
            raise ValueError(f"no clip {clip!r} in split {split!r} of {self.config.data_dir}; one is {ids[0]!r}")
        if not self.clips[modality][(number := ids.index(clip))].any():
            raise ValueError(f"clip {clip} has no {'sound' if modality == 'audio' else 'picture'} to ask with")
        return number


def open_vlsa(workdir: str, data_dir: str | None = None, split: str | None = None, which: str = "best") -> VlsaRun:
    """Opens a finished run of VLSA, of either stage. Arguments and errors: as of `runs.open_run`."""
    workdir, mesh = os.path.expanduser(workdir), sharding.make_mesh()
    config = runs.open_config(workdir, data_dir, split, mesh)
    if config.task == "retrieval":
        raise ValueError(f"{workdir} is no run of VLSA; save_jax.open_run opens it")
    model = make_model(config, mesh)
    step, params, data = runs.restore_with_data(model, config, workdir, mesh, which)
    return VlsaRun(workdir, VlsaEvaluator(model, data, config, mesh), params, step)
