"""A finished run of VLSA, opened from its folder: its test split, asked with a sentence, a picture or a sound."""

import functools
import os

import numpy as np

from save_jax import sharding
from save_jax.config.vlsa import DIRECTIONS, NAMES, modalities
from save_jax.data import pipeline
from save_jax.evaluation.contract import Trained
from save_jax.evaluation.vlsa import VlsaEvaluator, cosines
from save_jax.inference import runs
from save_jax.inference.runs import Hit
from save_jax.models.similarity import ABSENT
from save_jax.models.vlsa import make_model
from save_jax.training.workdir import check_tokenizer_of

MATCHED = ("audio-video", "audio-text")  # by pre-training; fine-tuning: config.loss.pairs
WORDS = {"video": "picture", "text": "caption", "audio": "sound"}


class VlsaRun(Trained):
    """A trained VLSA with the shards it was made with."""

    evaluator: VlsaEvaluator

    @property
    def split(self) -> str:
        """The one that is searched."""
        return self.config.data.test_split

    @property
    def ids(self) -> list[str]:
        """The clips of that split, in its order."""
        return self.data.sources[self.split].ids

    @functools.cached_property
    def directions(self) -> tuple[str, ...]:
        """What can ask and be found, such as "t2a": of modalities that training matched first, then the others.

        Texts can be found where the split has captions. Embeds nothing.
        """
        config = self.config
        pairs = MATCHED if config.task == "vlsa-pretrain" else config.loss.pairs
        matched, read = {frozenset(pair.split("-")) for pair in pairs}, {"text", *modalities(config)}
        sides = {direction: NAMES[direction].split(" → ") for direction in DIRECTIONS}
        captions = bool(self.data.sources[self.split].caption_counts.sum())
        there = [d for d, both in sides.items() if read.issuperset(both) and (captions or both[1] != "text")]
        return tuple(sorted(there, key=lambda direction: frozenset(sides[direction]) not in matched))

    @functools.cached_property
    def clips(self) -> dict[str, np.ndarray]:
        """Unit vectors "video" and "audio" of the split, float32 [clips, d]; zero where a clip has none."""
        return self.evaluator.embed_videos(self.params, self.split)

    @functools.cached_property
    def captions(self) -> tuple[list[str], np.ndarray]:
        """Of the split, each once; and their unit vectors, float32 [captions, d]."""
        captions = list(dict.fromkeys(self.data.info(self.split).captions))
        return captions, self.evaluator.embed_texts(self.params, captions)

    def choose(self, sentence: str = "", like: str = "", direction: str = "") -> str:
        """The direction that `search` takes: `direction`, or the first of `directions` that asks with what is given.

        Embeds nothing. Raises ValueError as `search`.
        """
        if bool(sentence.strip()) == bool(like):
            raise ValueError("give a sentence, or the id of a clip (like, in the shell --like), and not both")
        if direction and direction not in DIRECTIONS:
            raise ValueError(f"direction {direction!r} is none of {', '.join(DIRECTIONS)}")
        if direction and direction not in self.directions:
            unread = {*NAMES[direction].split(" → ")} - {"text", *modalities(self.config)}
            why = f"split {self.split!r} has no captions to find"
            if unread:
                why = f"config.loss.pairs={tuple(self.config.loss.pairs)} left {WORDS[min(unread)]}s out"
            raise ValueError(f"direction {direction}: {why}; this run ranks {', '.join(self.directions)}")
        asking = [d for d in self.directions if d.startswith("t") == bool(sentence.strip())]
        if not asking or (direction and direction not in asking):
            direction = direction or self.directions[0]
            by_clip = "a clip of the split, by its id (like, in the shell --like)"
            what = "a sentence" if direction.startswith("t") else by_clip
            raise ValueError(
                f"direction {direction} asks with {what}, and finds {WORDS[NAMES[direction].split()[-1]]}s"
            )
        if like and like not in self.ids:
            raise ValueError(
                f"no clip {like!r} in split {self.split!r} of {self.config.data_dir}; its first is {self.ids[0]!r}"
            )
        return direction or asking[0]

    def search(self, sentence: str = "", top: int = 5, *, like: str = "", direction: str = "") -> list[Hit]:
        """What ranks first, best first, with its cosine; of equal ones the earlier.

        Args:
            sentence: asks with a text.
            top: how many at most. What cannot be found, such as the sound of a silent clip, is never among them.
            like: in a sentence's place, the id of a clip of the split, whose picture or sound asks.
            direction: such as "t2a"; without it the first of `directions` that asks with what is given. A hit's `id` is
                a caption where texts are found.
        Raises:
            ValueError for a direction that this run does not rank, a clip that is not there or lacks what is asked
            with, a text without words, or a split in which there is nothing to find.
        """
        if top < 1:
            raise ValueError(f"top is {top}; ask for at least one")
        asked, found = NAMES[self.choose(sentence, like, direction)].split(" → ")
        if asked == "text":
            vector = self.evaluator.embed_texts(self.params, [sentence])
        else:
            vector = self.clips[asked][[self.ids.index(like)]]
        if not vector.any():
            raise ValueError(f"clip {like} has no {WORDS[asked]} to ask with" if like else f"{sentence!r} has no words")
        names, gallery = self.captions if found == "text" else (self.ids, self.clips[found])
        [scores] = cosines(vector, gallery)
        best = [number for number in np.argsort(-scores, kind="stable")[:top] if scores[number] > ABSENT]
        if not best:
            raise ValueError(f"split {self.split!r} of {self.config.data_dir} has no {WORDS[found]} to find")
        return [Hit(names[number], float(scores[number])) for number in best]


def open_vlsa(workdir: str, data_dir: str | None = None, split: str | None = None, which: str = "best") -> VlsaRun:
    """Opens a finished run of VLSA, of either stage, from its folder. Arguments and errors: as of `open_run`."""
    workdir, mesh = os.path.expanduser(workdir), sharding.make_mesh()
    config = runs.open_config(workdir, data_dir, split, mesh)
    if config.task == "retrieval":
        raise ValueError(f"{workdir} is a run of SAVE, AVIGATE or vision; save_jax.open_run opens it")
    model = make_model(config, mesh)
    step, params = runs.restore(model, config, workdir, mesh, which)
    data = pipeline.Data(config, (config.data.test_split,))
    check_tokenizer_of(data.tokenizer, workdir)
    return VlsaRun(workdir, VlsaEvaluator(model, data, config, mesh), params, step)
