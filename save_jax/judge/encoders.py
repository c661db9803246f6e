"""Any encoder of mteb's form on texts and files of one's own → a score matrix, for `scores.evaluate_scores`.

The encoder is given what mteb would give it: batches of a data set with a column for each modality, and the metadata of
a retrieval task. Needs the extra `mteb`; what decodes the files is the encoder's (most of mteb's need torchcodec).
"""

import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

if TYPE_CHECKING:
    from datasets import Dataset

CATEGORIES = {"t2v": ("video",), "t2va": ("video", "audio"), "t2a": ("audio",), "t2i": ("image",)}  # of mteb's tasks


def encoded_scores(
    encoder: Any,
    texts: Sequence[str],
    videos: "Sequence[str] | Dataset",
    *,
    modalities: Sequence[str] = ("video",),
    batch_size: int = 32,
    progress: bool = True,
) -> np.ndarray:
    """float32 [texts, videos]: each text against each video, by the encoder's `similarity`, or cosines without one.

    Args:
        encoder: an object of mteb's form; the name of what makes one, "module:function"; or a name that mteb knows.
        texts: the queries.
        videos: files, or a data set of Hugging Face's with a column for each modality, whose values are passed on.
        modalities: what the encoder is given of each file: ("video",), ("audio",), ("image",), or ("video", "audio"): a
            video and its own sound track.
        batch_size: inputs encoded at a time.
        progress: a line with the time left, on standard error, where it takes more than five seconds.
    Raises:
        ValueError where there is nothing to score, a file or the extra is missing, or the encoder gives another number
        of embeddings or scores than there are inputs.
    """
    category = next((name for name, known in CATEGORIES.items() if known == tuple(modalities)), None)
    if category is None:
        known = ", ".join(map(str, CATEGORIES.values()))
        raise ValueError(f"modalities are {modalities!r}; choose one of {known}")
    if isinstance(texts, str) or not len(texts) or not len(videos):
        raise ValueError(f"{len(texts)} texts and {len(videos)} videos to score; give a list of at least one of each")
    try:
        from datasets import Dataset
        from mteb import TaskMetadata
        from mteb.types import PromptType
    except ImportError as error:
        raise ValueError(f"encoders of mteb's form need it ({error}): pip install 'save_jax[mteb]'") from error
    gallery = videos if hasattr(videos, "column_names") else _dataset(videos, modalities)
    queries = Dataset.from_dict({"id": _numbers(len(texts)), "text": list(texts), "query": list(texts)})
    # What mteb says of its own tasks; encoders read modalities from it, and choose prompts by it.
    about: dict[str, Any] = {
        "name": "Judge",
        "description": "Retrieval of one's own.",
        "dataset": {"path": "judge", "revision": "1"},
        "type": "Any2AnyRetrieval",
        "category": category,
        "modalities": ["text", *modalities],
        "eval_langs": ["eng-Latn"],
        "eval_splits": ["test"],
        "main_score": "ndcg_at_10",
    }
    metadata = TaskMetadata(**about)
    encoder = find_encoder(encoder)

    def encode(dataset: "Dataset", what: str, prompt: PromptType) -> Any:
        batches = Batches(dataset, batch_size, what, progress)
        kind = {"task_metadata": metadata, "hf_split": "test", "hf_subset": "default", "prompt_type": prompt}
        embeddings = encoder.encode(batches, **kind, batch_size=batch_size, show_progress_bar=False)
        if len(embeddings) != len(dataset):
            raise ValueError(f"the encoder gave {len(embeddings)} embeddings for {len(dataset)} {what}")
        return embeddings

    of_texts, of_videos = encode(queries, "texts", PromptType.query), encode(gallery, "videos", PromptType.document)
    scores = _array(getattr(encoder, "similarity", cosines)(of_texts, of_videos))
    if scores.shape != (len(texts), len(gallery)):
        raise ValueError(
            f"the encoder's similarity gave {list(scores.shape)}, not [{len(texts)}, {len(gallery)}]: a score of each "
            "text and video"
        )
    return scores


def find_encoder(encoder: Any) -> Any:
    """The encoder itself; of "module:function" what the function returns; else mteb's model of this name.

    mteb looks on the Hub for a name that it does not know. Raises ValueError for "module:function" that is not there,
    and for what has no `encode`.
    """
    name = encoder
    if isinstance(encoder, str) and ":" in encoder:
        module, _, function = encoder.partition(":")
        try:
            encoder = getattr(importlib.import_module(module), function)()
        except (ImportError, AttributeError) as error:
            raise ValueError(f"no encoder {name}: {error}; give module:function, which returns one") from error
    elif isinstance(encoder, str):
        import mteb

        encoder = mteb.get_model(encoder)
    if not callable(getattr(encoder, "encode", None)):
        raise ValueError(f"{name} is {type(encoder).__name__} without encode(); give an encoder of mteb's form")
    return encoder


class Batches:
    """What encoders use of torch's DataLoader, without torch: a data set in batches, and the function that makes them.

    Encoders replace `collate_fn` by one that decodes as they need.
    """

    num_workers = 0

    def __init__(self, dataset: "Dataset", batch_size: int, what: str, progress: bool):
        self.dataset, self.batch_size, self._what, self._progress = dataset, batch_size, what, progress
        self.collate_fn: Callable[[list[dict]], Any] = _lists

    def __len__(self) -> int:
        return -(-len(self.dataset) // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        # Media are read with their rows: a batch at a time, not all.
        starts = range(0, len(self.dataset), self.batch_size)
        for at in tqdm(starts, f"encode {self._what}", unit="batch", delay=5, disable=not self._progress):
            stop = min(at + self.batch_size, len(self.dataset))
            yield self.collate_fn([self.dataset[number] for number in range(at, stop)])


def cosines(one: Any, two: Any) -> np.ndarray:
    """float32 [n, m] of embeddings [n, d] and [m, d]. Raises ValueError for those of another shape."""
    one, two = _array(one), _array(two)
    if one.ndim != 2 or two.ndim != 2 or one.shape[1] != two.shape[1]:
        raise ValueError(
            f"embeddings have shapes {list(one.shape)} and {list(two.shape)}, not [n, d] and [m, d], and the encoder "
            "has no similarity() of its own"
        )
    one, two = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (one, two))
    return one @ two.T


def _dataset(files: Sequence[str], modalities: Sequence[str]) -> "Dataset":
    import datasets

    if isinstance(files, str):
        raise ValueError(f"videos is one text, {files!r}; give a list of files")
    paths = [os.fspath(file) for file in files]
    if missing := [path for path in paths if not os.path.exists(path)]:
        raise ValueError(f"{len(missing)} of {len(paths)} files are not there, such as {missing[0]}")
    kinds = {"video": datasets.Video(), "audio": datasets.Audio(), "image": datasets.Image()}
    dataset = datasets.Dataset.from_dict({"id": _numbers(len(paths))} | {name: paths for name in modalities})
    for name in modalities:  # cast, because making a column of sounds would ask for torchcodec
        dataset = dataset.cast_column(name, kinds[name])
    return dataset


def _numbers(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def _lists(rows: list[dict]) -> dict[str, list]:
    return {name: [row[name] for row in rows] for name in rows[0]}


def _array(x: Any) -> np.ndarray:
    """float32, of an array or of a torch tensor on any device."""
    return np.asarray(x.detach().cpu().float() if hasattr(x, "detach") else x, np.float32)
