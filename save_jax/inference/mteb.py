"""A trained model as an encoder of mteb's form: `mteb.evaluate` runs it on tasks of text and video, such as MVEB's.

    encoder = Encoder(save_jax.load_model("weights/save"))
    mteb.evaluate(encoder, mteb.get_benchmark("MVEB(text, video, v1)").tasks)

In: texts; videos, with the sound that a task gives them. Out: embeddings, and this model's score by mteb's own hook for
one, `similarity`. Media are read as everywhere here, from the files and bytes of mteb's data sets. Needs the extras
`mteb` and `prep`. mteb gives no transcripts, so a model that reads speech reads that nothing is said.
"""

import copy
import functools
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from tqdm import tqdm

from save_jax.config import branches, method
from save_jax.data.records import Clip
from save_jax.inference import media
from save_jax.inference.model import Model
from save_jax.models import trees
from save_jax.models.similarity import VideoIndex

if TYPE_CHECKING:
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.models import ModelMeta

MEDIA = ("video", "audio")  # columns of mteb's data sets
TOGETHER = 64  # videos whose bytes lie in a temporary folder at a time
SCORED = ("retrieval", "reranking", "zeroshot")  # kinds of tasks that ask `similarity`, not for one vector of a video


class Encoder:
    """mteb's `EncoderProtocol`, by NumPy arrays.

    A text is one vector, float32 [n, d]. A video is its unit mean and its unit frames, float32 [n, 1 + t, d]; a frame
    that is not there is zero. `similarity` knows them by their shape, and gives the one score of training, evaluation
    and search. For classification, clustering and pairs mteb computes on vectors itself: there a video is its unit
    mean, [n, d].

    Sound is heard where a task gives it, in its column `audio`. The sound track within a video file is left out:
    mteb's other models do not hear it either. Sound alone cannot be embedded, because the score is over frames.
    """

    def __init__(self, model: Model, name: str = ""):
        """Args:
        model: from `save_jax.load_model`.
        name: in results, "organisation/model"; by default "save_jax/" and the method.
        """
        self.model = model
        self._name = name or f"save_jax/{method(model.config)}"

    @functools.cached_property
    def mteb_model_meta(self) -> "ModelMeta":
        """What mteb files results under. The revision is a digest of the parameters."""
        from mteb.models import ModelMeta
        from mteb.models.model_meta import ScoringFunction

        params, settings = jax.device_get(self.model.params), self.model.config.model
        weights = jax.tree.leaves(params)
        # The two grains are more than a cosine of two vectors; one grain alone is that, in the end.
        both = settings.score == "both"
        return ModelMeta(
            loader=None,
            name=self._name,
            revision=trees.digest(params),
            release_date=None,
            languages=None,
            n_parameters=sum(x.size for x in weights),
            memory_usage_mb=round(sum(x.nbytes for x in weights) / 2**20),
            max_tokens=self.model.config.data.max_words,
            embed_dim=settings.embed_dim,
            license=None,
            open_weights=None,
            public_training_code=None,
            public_training_data=None,
            framework=["JAX"],
            similarity_fn_name=ScoringFunction.CUSTOM if both else ScoringFunction.COSINE,
            use_instructions=False,
            training_datasets=None,
            modalities=["text", "video", *(["audio"] if "audio" in branches(self.model.config) else [])],
            model_type=["late-interaction"] if both else ["dense"],
        )

    def encode(
        self, inputs: Any, *, task_metadata: "TaskMetadata", show_progress_bar: bool = True, **_: Any
    ) -> np.ndarray:
        """Texts → float32 [n, d]; videos → [n, 1 + t, d], or [n, d] where the task is none of `SCORED`.

        Args:
            inputs: mteb's DataLoader, or batches in its form: {"text": […]}, {"video": […]} or both media. A video or a
                sound is a path, or {"bytes", "path"} as `datasets.Video(decode=False)` gives it.
        Raises:
            ValueError for sound alone, for text and media in one input, and for media that are decoded already. A video
            that cannot be read is told on standard error, and ranks last.
        """
        rows, count, columns = _rows(inputs)
        given = {"text", *MEDIA} & columns
        if given == {"text"}:
            return self.model.embed_texts([row["text"] for row in rows])
        if "video" not in given or "text" in given:
            raise ValueError(
                f"an input of task {task_metadata.name} is {' and '.join(sorted(given)) or 'neither text nor video'}; "
                f"{self._name} embeds text, video, or video with audio. Choose tasks of category t2v, v2t, t2va or va2t"
            )
        bar = tqdm(_clips(self.model, rows), "embed videos", count, unit="video", disable=not show_progress_bar)
        index = self.model.embed_clips(_told(bar))
        if not any(kind in task_metadata.type.lower() for kind in SCORED):
            return np.asarray(index.mean)
        return np.concatenate([index.mean[:, None], index.frames * index.mask[:, :, None]], axis=1)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> np.ndarray:
        """float32 [n, m], higher is better: of texts and videos, in either order, this model's score; else cosines.

        Args:
            embeddings1, embeddings2: from `encode`, NumPy arrays or tensors.
        """
        one, two = np.asarray(embeddings1), np.asarray(embeddings2)
        if one.ndim == 3 and two.ndim == 2:
            return self.similarity(two, one).T
        if one.ndim == 2 and two.ndim == 3:
            mean, frames = two[:, 0], two[:, 1:]
            return self.model.score(one, VideoIndex(frames=frames, mean=mean, mask=np.abs(frames).max(axis=2) > 0))
        return _unit(one) @ _unit(two).T

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> np.ndarray:
        """float32 [n]: `similarity` of each with its partner."""
        pairs = zip(np.asarray(embeddings1), np.asarray(embeddings2), strict=True)
        return np.array([self.similarity(one[None], two[None])[0, 0] for one, two in pairs], np.float32)


def _unit(embeddings: np.ndarray) -> np.ndarray:
    """Of each text or video one unit vector, float32 [n, d]."""
    vectors = embeddings[:, 0] if embeddings.ndim == 3 else embeddings
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _rows(inputs: Any) -> tuple[Iterable[Mapping[str, Any]], int | None, set[str]]:
    """Inputs one by one, how many, and their columns; media as files or bytes, because they are decoded here."""
    dataset: Any = getattr(inputs, "dataset", None)
    if hasattr(dataset, "cast_column"):
        import datasets

        for name, kind in (("video", datasets.Video), ("audio", datasets.Audio)):
            if name in dataset.column_names:
                dataset = dataset.cast_column(name, kind(decode=False))
        wanted = [name for name in ("text", *MEDIA) if name in dataset.column_names]
        # The loader with other data. Torch's own refuses an assignment; its workers would fork this process under JAX.
        loader = copy.copy(inputs)
        vars(loader).update(dataset=dataset.select_columns(wanted), collate_fn=list, num_workers=0)
        return (row for batch in loader for row in batch), len(dataset), set(wanted)
    rows = [dict(zip(batch, values, strict=True)) for batch in inputs for values in zip(*batch.values(), strict=True)]
    return rows, len(rows), set(rows[0]) if rows else set()


def _clips(model: Model, rows: Iterable[Mapping[str, Any]]) -> Iterator[Clip]:
    """The clip of each row. Bytes pass through a temporary folder, some videos at a time."""
    waiting: list[Mapping[str, Any]] = []

    def read() -> Iterator[Clip]:
        with tempfile.TemporaryDirectory() as folder:
            videos = [_file(row["video"], os.path.join(folder, f"video{k}")) for k, row in enumerate(waiting)]
            sounds = [
                _file(row["audio"], os.path.join(folder, f"audio{k}")) if row.get("audio") else ""
                for k, row in enumerate(waiting)
            ]
            sizes = model.config.model.image_size, model.config.data.max_frames
            yield from media.read_clips(videos, [""] * len(waiting), *sizes, sounds)

    for row in rows:
        waiting.append(row)
        if len(waiting) == TOGETHER:
            yield from read()
            waiting.clear()
    if waiting:
        yield from read()


def _file(given: Any, path: str) -> str:
    """A file with what is given: its own path, or `path` with its suffix, written here."""
    given = {"bytes": None, "path": os.fspath(given)} if isinstance(given, str | os.PathLike) else given
    if not isinstance(given, Mapping) or not {"bytes", "path"} <= given.keys():
        raise ValueError(
            f"a video or sound is {type(given).__name__}, decoded already; give its file or its bytes: a column of "
            "datasets.Video or datasets.Audio, a path, or {'bytes': …, 'path': …}"
        )
    if given["bytes"] is None:
        return given["path"]
    path += os.path.splitext(given["path"] or "")[1]
    with open(path, "wb") as file:
        file.write(given["bytes"])
    return path


def _told(bar: "tqdm[Clip]") -> Iterator[Clip]:
    for number, clip in enumerate(bar):
        if clip.failed or clip.notes:
            reason = f"{clip.failed}; it ranks last" if clip.failed else f"left out: {'; '.join(clip.notes)}"
            bar.write(f"video {number}: {reason}", file=sys.stderr)
        yield clip
