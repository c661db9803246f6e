"""A finished run, opened from its folder alone: config.json and checkpoint → what evaluates, searches and embeds."""

import functools
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from save_jax import sharding
from save_jax.config import defaults, resolve
from save_jax.data import files, pipeline, records
from save_jax.evaluation import scoring
from save_jax.evaluation.contract import Trained
from save_jax.evaluation.retrieval import RetrievalEvaluator
from save_jax.inference.model import Model, Videos
from save_jax.models import similarity
from save_jax.models.retrieval import make_model
from save_jax.training import state
from save_jax.training.contract import Checkpoint
from save_jax.training.workdir import check_tokenizer_of
from save_jax.weights import description
from save_jax.weights.checkpoint import FOLDER, Checkpoints


class Hit(NamedTuple):
    """One video of an answer; of VLSA's also one caption."""

    id: str  # or the caption
    score: float


class Run(Trained):
    """A trained model with the shards it was made with: evaluates them, searches them, and embeds files of your own."""

    evaluator: RetrievalEvaluator

    @functools.cached_property
    def model(self) -> Model:
        """The model alone, on texts and files of your own."""
        return Model(self.config, self.params, self.data.tokenizer, self.evaluator.mesh)

    def embed_texts(self, texts: str | Sequence[str]) -> np.ndarray:
        """As `Model.embed_texts`."""
        return self.model.embed_texts(texts)

    def embed_videos(
        self,
        files: Sequence[str | os.PathLike],
        transcripts: Mapping[str, str] | Sequence[str] | None = None,
        *,
        progress: bool = True,
    ) -> Videos:
        """As `Model.embed_videos`: of files of your own, which need not be in the run's data."""
        return self.model.embed_videos(files, transcripts, progress=progress)

    @functools.cached_property
    def index(self) -> similarity.VideoIndex:
        """The videos of the test split, embedded once, NumPy."""
        return self.evaluator.embed_videos(self.params, self.config.data.test_split)

    @functools.cached_property
    def _gallery(self) -> tuple[list[str], int, similarity.VideoIndex]:
        """Ids of the videos that have a frame, how many of them to score at once, and they themselves on a device."""
        shown = np.flatnonzero(np.asarray(self.index.mask).any(axis=1))
        videos = jax.tree.map(lambda x: x[shown], self.index)
        ids = [self.data.sources[self.config.data.test_split].ids[number] for number in shown]
        tile = max(1, min(len(ids), scoring.tile_of(1, videos.mask.shape[1], sharding.platform(self.evaluator.mesh))))
        return ids, tile, jax.device_put(scoring.pad(videos, tile))

    def search(self, sentence: str, top: int = 5) -> list[Hit]:
        """The videos of the test split that a sentence ranks first, best first; of equal scores the earlier clip.

        A video that failed to decode, or has no frame, is never among them.
        """
        ids, tile, videos = self._gallery
        best = min(top, len(ids))
        if best < 1:
            return []
        texts, scale = self.evaluator.embed_texts(self.params, [sentence]), jax.device_get(self.params["logit_scale"])
        scores, numbers = scoring.top_k(
            texts,
            videos,
            scale,
            best,
            tile if best <= tile else len(videos.mask),
            self.config.model.temperature,
            self.config.model.score,
        )
        ranked = zip(np.asarray(numbers[0]), np.asarray(scores[0]), strict=True)
        return [Hit(ids[number], float(score)) for number, score in ranked]


def read_config(
    workdir: str, data_dir: str | None = None, split: str | None = None, needs_shards: bool = True
) -> ConfigDict:
    """The resolved config of a run.

    Settings that are newer than the run have their defaults.

    Args:
        workdir: of `save_jax.main`; holds config.json.
        data_dir: where the shards are now, if they moved; a relative one counts from the current folder.
        split: evaluated instead of the run's test split.
        needs_shards: whether they are read at all.
    Raises:
        ValueError for a folder without config.json, settings unknown here, or shards that are not there.
    """
    path = os.path.join(workdir, "config.json")
    if not os.path.exists(path):
        raise ValueError(
            f"{workdir} is not the folder of a run: it has no config.json; give a --workdir of save_jax.main"
        )
    stored = files.read_json(path)
    config = defaults(stored.get("task", "retrieval"))
    if unknown := sorted(_names(stored) - _names(config.to_dict())):
        raise ValueError(
            f"{path} has settings unknown here: {', '.join(unknown)}; use the version of save_jax that made this run"
        )
    config.update(stored)
    config.model.attention = "auto"  # a run may be opened on another machine than it was trained on
    made_with = os.path.join(config.data_dir, "tokenizer")
    config.data_dir = os.path.expanduser(data_dir or config.data_dir)
    config.data.test_split = split or config.data.test_split
    if needs_shards and not os.path.isdir(config.data_dir):
        raise ValueError(
            f"{workdir} reads shards in {config.data_dir}, which is not there; pass data_dir=FOLDER of shards"
        )
    if config.data.tokenizer == "data" and not os.path.isdir(os.path.join(config.data_dir, "tokenizer")):
        # Other shards, such as those of a folder of videos, bring none. A run of version 0.1 has no copy of its own.
        copies = (os.path.join(workdir, description.TOKENIZER), made_with)
        config.data.tokenizer = next(filter(os.path.isdir, copies), "data")
    return resolve(config)


def _names(settings: dict, prefix: str = "") -> set[str]:
    names = set()
    for key, value in settings.items():
        names |= _names(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key}
    return names


def restore(model: nn.Module, config: ConfigDict, workdir: str, mesh: Mesh, which: str = "best") -> Checkpoint:
    """(step, parameters) of a run's checkpoint, replicated over the mesh.

    Args:
        which: "best", the one with the best validation (the last where nothing was validated), or "last". Where it is
            damaged the next one in that order serves, and a line says so.
    Raises:
        ValueError where there is no complete checkpoint.
    """
    if which not in ("best", "last"):
        raise ValueError(f"which is {which!r}; choose best or last")
    if not os.path.isdir(os.path.join(workdir, FOLDER)):
        raise ValueError(f"no checkpoint in {workdir}; train first, or give the --workdir of a run")
    shapes = jax.eval_shape(lambda: state.init_params(model, config, jax.random.key(0)))
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding.replicated(mesh)), shapes)
    checkpoints = Checkpoints(workdir, read_only=True)
    try:
        step = checkpoints.whole(which)
        return Checkpoint(step, checkpoints.restore_params(step, like))
    finally:
        checkpoints.close()


def check_retrieval(config: ConfigDict, workdir: str) -> None:
    """Raises ValueError for a run of VLSA."""
    if config.task != "retrieval":
        raise ValueError(
            f"{workdir} is a run of {config.task}, not of SAVE, AVIGATE or vision; save_jax.open_vlsa opens it, and "
            f'save-jax search query {workdir} "a sentence" asks its test split; its page: save-jax report {workdir}'
        )


def open_data(config: ConfigDict) -> pipeline.Data:
    """The test split of a config and, where there are shards of it, the validation split."""
    splits = {config.data.test_split, *records.splits(config.data_dir)} & {
        config.data.test_split,
        config.data.val_split,
    }
    return pipeline.Data(config, tuple(sorted(splits)))


def restore_with_data(
    model: nn.Module, config: ConfigDict, workdir: str, mesh: Mesh, which: str = "best"
) -> tuple[int, dict, pipeline.Data]:
    """(step, parameters, `open_data`) of a run of any method, as `restore`. Refuses another vocabulary's shards."""
    step, params = restore(model, config, workdir, mesh, which)
    data = open_data(config)
    check_tokenizer_of(data.tokenizer, workdir)
    return step, params, data


def open_config(workdir: str, data_dir: str | None, split: str | None, mesh: Mesh) -> ConfigDict:
    """As `read_config`, with batches for the devices here."""
    config = read_config(workdir, data_dir, split).copy_and_resolve_references().unlock()
    for size in ("batch_size", "micro_batch"):  # of another machine than it was trained on
        config[size] = -(-config[size] // mesh.size) * mesh.size
    return config.lock()


def open_run(workdir: str, data_dir: str | None = None, split: str | None = None, which: str = "best") -> Run:
    """Opens a finished run of SAVE, AVIGATE or vision from its folder, with the shards that it was made with.

    Args:
        workdir: of a training run.
        data_dir: where the shards are now, if they moved; a relative path counts from the current folder.
        split: searched and evaluated instead of the run's test split.
        which: "best", the checkpoint with the best validation, or "last".
    Raises:
        ValueError or ShardError that says what is missing, or of another vocabulary, and what to give.
    """
    workdir, mesh = os.path.expanduser(workdir), sharding.make_mesh()
    config = open_config(workdir, data_dir, split, mesh)
    check_retrieval(config, workdir)
    model = make_model(config, mesh)
    step, params, data = restore_with_data(model, config, workdir, mesh, which)
    return Run(workdir, RetrievalEvaluator(model, data, config, mesh), params, step)
