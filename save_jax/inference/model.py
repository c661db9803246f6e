"""A trained model on texts and video files of your own: embeddings, scores, and why a video matches."""

import dataclasses
import functools
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import overload

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict
from tqdm import tqdm

from save_jax import sharding
from save_jax.config import branches
from save_jax.data.records import Clip
from save_jax.data.tokenizer import Tokenizer
from save_jax.data.transforms import ClipToArrays
from save_jax.evaluation import attribution, scoring
from save_jax.evaluation.contract import in_batches
from save_jax.evaluation.retrieval import VIDEO_INPUTS, encoders
from save_jax.inference import media
from save_jax.models.retrieval import make_model
from save_jax.models.similarity import VideoIndex

BATCH = 8  # videos encoded at a time


@dataclasses.dataclass(frozen=True)
class Video:
    """One file of `Videos`."""

    file: str
    transcript: str  # what the model read, "" where nothing is said


@dataclasses.dataclass(frozen=True)
class Videos:
    """Embedded video files, one row for each that was given, in their order.

    A file that could not be read keeps its row: its scores are below -1e29, and `failed` says why.
    """

    files: list[str]
    transcripts: list[str]
    index: VideoIndex  # what the score needs of each: frames float32 [n, t, d], their mean [n, d], mask [n, t]
    failed: dict[str, str]  # file → reason
    notes: dict[str, list[str]]  # file → what it lost without failing, such as sound that cannot be decoded

    def __len__(self) -> int:
        return len(self.files)

    @overload
    def __getitem__(self, number: int) -> Video: ...

    @overload
    def __getitem__(self, number: slice) -> "Videos": ...

    def __getitem__(self, number: int | slice) -> "Video | Videos":
        if isinstance(number, slice):
            index = jax.tree.map(lambda x: x[number], self.index)
            return dataclasses.replace(
                self, files=self.files[number], transcripts=self.transcripts[number], index=index
            )
        return Video(self.files[number], self.transcripts[number])

    def __iter__(self) -> Iterator[Video]:
        return (self[number] for number in range(len(self)))

    @property
    def mean(self) -> np.ndarray:
        """One unit vector for each video, float32 [n, d]; zero where the file failed. For stores of single vectors."""
        return np.asarray(self.index.mean)


@dataclasses.dataclass(frozen=True)
class Why:
    """What made a video match a text. Numbers are in units of the score, and do not add up to it."""

    score: float
    branches: dict[str, float]  # vision, audio, speech: score lost without that branch's term
    inputs: dict[str, float]  # audio, speech: score lost without the sound track, or without the transcript
    gates: dict[str, float]  # audio, speech: mean absolute attention gate, how far the frames let it in

    def __str__(self) -> str:
        lines = [f"score {self.score:.2f}", f"{'':8}{'branch':>8}{'input':>8}{'gate':>8}"]
        for name, lost in (self.branches or {"vision": None}).items():
            cells = [f"{'–':>8}" if lost is None else f"{lost:+8.2f}"]
            cells += [f"{row[name]:+8.2f}" if name in row else f"{'–':>8}" for row in (self.inputs,)]
            cells += [f"{row[name]:8.2f}" if name in row else f"{'–':>8}" for row in (self.gates,)]
            lines.append(f"{name:8}{''.join(cells)}")
        return "\n".join(lines)


class Model:
    """SAVE, AVIGATE or vision with its tokenizer; `load_model` opens one. Compiles its encoders at their first use."""

    def __init__(self, config: ConfigDict, params: dict, tokenizer: Tokenizer, mesh: Mesh):
        """Args:
        config: resolved; its model settings and data.max_words, data.max_frames are used.
        params: float32, on the mesh.
        """
        self.config, self.params, self.tokenizer, self.mesh = config, params, tokenizer, mesh
        self.module = make_model(config, mesh)
        self._encoders = encoders(self.module, mesh)
        data = config.data
        self._to_arrays = ClipToArrays(
            tokenizer, branches(config), data.max_words, data.max_frames, config.model.image_size
        )

    def embed_texts(self, texts: str | Sequence[str]) -> np.ndarray:
        """Query embeddings, float32 [texts, d], not normalised."""
        texts = [texts] if isinstance(texts, str) else list(texts)
        if not texts:
            raise ValueError("no text to embed; give at least one")
        size = self.mesh.size if len(texts) <= self.mesh.size else -(-32 // self.mesh.size) * self.mesh.size
        ids = np.stack([self._to_arrays.text(text) for text in texts])
        return in_batches(functools.partial(self._encoders.text, self.params), ids, size, self.mesh).astype(np.float32)

    def embed_videos(
        self,
        files: Sequence[str | os.PathLike],
        transcripts: Mapping[str, str] | Sequence[str] | None = None,
        *,
        progress: bool = True,
    ) -> Videos:
        """Embeds video files. Needs the extra `prep`, which decodes them.

        Args:
            files: video files, or folders of pictures (one a second).
            transcripts: what is said, by file or in the order of the files. Where there is none, subtitles beside the
                file (clip.srt, clip.en.vtt) or inside it are read; else nothing is said.
            progress: a bar with the time left, on standard error.
        Raises:
            ValueError where there is no file at all, or transcripts that do not fit the files. A file that is no video
            is named in `Videos.failed`, and the others go on.
        """
        paths = [os.fspath(file) for file in ([files] if isinstance(files, (str, os.PathLike)) else files)]
        if not paths:
            raise ValueError("no video to embed; give at least one file")
        said = media.match_transcripts(paths, transcripts)
        clips = media.read_clips(paths, said, self.config.model.image_size, self.config.data.max_frames)
        bar = tqdm(clips, "embed videos", total=len(paths), unit="video", disable=None if progress else True)
        transcripts_read: list[str] = []
        failed: dict[str, str] = {}
        notes: dict[str, list[str]] = {}

        def told() -> Iterator[Clip]:
            for path, clip in zip(paths, bar, strict=True):
                if clip.failed:
                    failed[path] = clip.failed
                    bar.write(f"{clip.failed}; its row ranks last", file=sys.stderr)
                if clip.notes:
                    notes[path] = clip.notes
                    bar.write(f"{path}: left out: {'; '.join(clip.notes)}", file=sys.stderr)
                transcripts_read.append(clip.transcript)
                yield clip

        return Videos(paths, transcripts_read, self.embed_clips(told()), failed, notes)

    def embed_clips(self, clips: Iterable[Clip]) -> VideoIndex:
        """The index of prepared clips, NumPy, in their order: frames float32 [n, t, d], their mean [n, d], mask [n, t].

        Holds a batch of clips at a time. A clip without pictures has no frame in the mask, and scores below -1e29.
        Raises ValueError where there is no clip.
        """
        rows, waiting = [], []
        for clip in clips:
            waiting.append(clip)
            if len(waiting) == self.batch:
                rows.append(self._embed(waiting))
                waiting = []
        if waiting:
            rows.append(self._embed(waiting))
        if not rows:
            raise ValueError("no clip to embed; give at least one")
        return jax.tree.map(lambda *parts: np.concatenate(parts), *rows)

    def score(self, texts: str | Sequence[str] | np.ndarray | jax.Array, videos: Videos | VideoIndex) -> np.ndarray:
        """The one score of training, evaluation and search: float32 [texts, videos], higher is better.

        Args:
            texts: a sentence, sentences, or embeddings from `embed_texts`, float [texts, d].
            videos: from `embed_videos`, or a slice of them; or from `embed_clips`. Rows of files that failed score
                below -1e29.
        Raises:
            ValueError for what is neither.
        """
        if not isinstance(videos, Videos | VideoIndex):
            raise ValueError(
                f"videos is {type(videos).__name__}; give Videos from embed_videos, or a slice: videos[2:3]"
            )
        embedded = np.asarray(texts) if isinstance(texts, np.ndarray | jax.Array) else self.embed_texts(texts)
        index = videos.index if isinstance(videos, Videos) else videos
        if embedded.ndim != 2 or embedded.shape[1] != index.mean.shape[1]:
            raise ValueError(
                f"texts have shape {list(embedded.shape)}, not [texts, {index.mean.shape[1]}]; give sentences, "
                "or what embed_texts gives"
            )
        return self._score(embedded, index)

    def why(self, text: str, video: Video | str) -> Why:
        """What vision, audio and speech did for one match; `video`: a row of `Videos`, or a file. Decodes it again.

        Raises ValueError where the file cannot be read.
        """
        said = video.transcript if isinstance(video, Video) else None  # "" is said as well: nothing
        path = video.file if isinstance(video, Video) else os.fspath(video)
        [clip] = media.read_clips([path], [said], self.config.model.image_size, self.config.data.max_frames)
        if clip.failed:
            raise ValueError(clip.failed)
        silent, mute = dataclasses.replace(clip, fbank=None), dataclasses.replace(clip, transcript="")
        tokens = self._encoders.modalities(self.params, self.batch_of([clip, silent, mute]))
        indexes, gates = jax.device_get(self._explain(self.params, tokens))
        texts = self.embed_texts([text])
        scores = {name: self._score(texts, index)[0] for name, index in indexes.items()}
        whole = scores.pop("all")
        changed = {"audio": whole[1], "speech": whole[2]}
        return Why(
            score=float(whole[0]),
            branches={name: float(whole[0] - scores[name][0]) for name in branches(self.config) if name in scores},
            inputs={name: float(whole[0] - x) for name, x in changed.items() if name in branches(self.config)},
            gates={name: float(rows[0]) for name, rows in gates.items()},
        )

    @property
    def batch(self) -> int:
        """Videos encoded at a time."""
        return -(-BATCH // self.mesh.size) * self.mesh.size

    @functools.cached_property
    def _explain(self):
        return attribution.make_explainer(self.config, self.mesh)

    def _score(self, texts: np.ndarray, index: VideoIndex) -> np.ndarray:
        scale, model = jax.device_get(self.params["logit_scale"]), self.config.model
        return scoring.all_pairs(texts, index, scale, sharding.local(self.mesh), model.temperature, model.score)

    def batch_of(self, clips: Sequence[Clip]) -> dict[str, jax.Array]:
        """One full batch; what is missing repeats the first clip."""
        clips = [*clips, *[clips[0]] * (self.batch - len(clips))]
        examples = [self._to_arrays(clip) for clip in clips]
        arrays = {name: np.stack([example[name] for example in examples]) for name in examples[0]}
        return sharding.to_devices({name: arrays[name] for name in VIDEO_INPUTS if name in arrays}, self.mesh)

    def _embed(self, clips: Sequence[Clip]) -> VideoIndex:
        index, _ = jax.device_get(self._encoders.video(self.params, self.batch_of(clips)))
        return jax.tree.map(lambda x: x[: len(clips)], index)
