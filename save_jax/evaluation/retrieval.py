"""SAVE's evaluator: embeds a split once, scores every text against every video, ranks both ways, averages gates."""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import flax.struct
import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool, Float
from ml_collections import ConfigDict

from save_jax import sharding
from save_jax.data import split_info
from save_jax.data.pipeline import Data, eval_batches
from save_jax.data.reader import Batch
from save_jax.data.records import FBANK_SHAPE
from save_jax.evaluation import scoring
from save_jax.evaluation.contract import Change, Evaluation, in_batches
from save_jax.judge import metrics
from save_jax.models import similarity
from save_jax.models.apply import apply
from save_jax.models.retrieval import Retrieval
from save_jax.models.similarity import AnyArray, VideoIndex

T = TypeVar("T")
_TOGETHER = 8  # batches that are fused in one call
# A batch has some of them. The last three are stored outputs of frozen towers.
VIDEO_INPUTS = ("frames", "frame_mask", "fbank", "speech_ids", "visual", "ast", "speech")


@flax.struct.dataclass
class VideoTokens:
    """What each modality of videos came to, before they meet. `audio`, `speech`: None without the branch."""

    visual: Float[AnyArray, "v t d"]  # frames with their positions
    audio: Float[AnyArray, "v q d"] | None
    speech: Float[AnyArray, "v w d"] | None
    mask: Bool[AnyArray, "v t"]


class Encoders(NamedTuple):
    """The jitted encoders of videos and texts.

    Their results are replicated, so that every process can read all of them; but for those of `modalities`, which stay
    where they are until `gather`, or until `fuse` has made little of them.
    """

    modalities: Callable[[dict, dict], VideoTokens]  # (params, batch with VIDEO_INPUTS); reads pictures, sound, speech
    fuse: Callable[[dict, VideoTokens], tuple[VideoIndex, dict]]  # index and gates; a small part of the work
    text: Callable[[dict, jax.Array], jax.Array]  # (params, ids) → query embeddings
    one: Callable[[dict, dict], VideoTokens]  # `modalities` of a single video, on every device
    gather: Callable[[VideoTokens], VideoTokens]

    def video(self, params: dict, batch: dict) -> tuple[VideoIndex, dict]:
        """A batch → index and gates."""
        return self.fuse(params, self.modalities(params, batch))


def encoders(model: Retrieval, mesh: Mesh) -> Encoders:
    """Compiles the encoders of a model for a mesh, at their first use."""
    whole, rows = sharding.replicated(mesh), sharding.by_sample(mesh)

    def modalities(params: dict, batch: dict) -> VideoTokens:
        tokens = apply(Retrieval.encode_modalities, model, sharding.gathered(params, mesh), batch)
        return VideoTokens(*tokens, batch["frame_mask"])

    def fuse(params: dict, tokens: Any) -> tuple[VideoIndex, dict]:  # VideoTokens of JAX arrays
        params = sharding.gathered(params, mesh)
        video = apply(Retrieval.fuse, model, params, tokens.visual, tokens.audio, tokens.speech)
        gates = {
            branch: {"attention": fused.attention_gates, "mlp": fused.mlp_gates}
            for branch, fused in (("audio", video.audio_fused), ("speech", video.speech_fused))
            if fused is not None
        }
        return similarity.index(video.fused, tokens.mask), gates

    def text(params: dict, ids: jax.Array) -> jax.Array:
        return apply(Retrieval.encode_text, model, sharding.gathered(params, mesh), ids)

    by_rows = {"in_shardings": (None, rows), "out_shardings": whole}
    return Encoders(
        jax.jit(modalities, in_shardings=(None, rows), out_shardings=rows),
        jax.jit(fuse, **by_rows),
        jax.jit(text, **by_rows),
        jax.jit(modalities, out_shardings=whole),
        jax.jit(lambda tokens: tokens, out_shardings=whole),
    )


class RetrievalEvaluator:
    """The `contract.Evaluator` of SAVE, AVIGATE and vision."""

    video_inputs: tuple[str, ...] = VIDEO_INPUTS

    def __init__(self, model: Retrieval, data: Data, config: ConfigDict, mesh: Mesh):
        self.data, self.config, self.mesh = data, config, mesh
        self._encoders = encoders(model, mesh)

    def tokens(
        self, params: dict, split: str, numbers: Sequence[int] | np.ndarray | None = None, change: Change | None = None
    ) -> VideoTokens:
        """Tokens of the clips of a split, NumPy, in the split's order; `numbers`, `change` as in `eval_batches`.

        This reads and encodes pictures, sound and speech. `fuse` makes embeddings of them, and of exchanged ones. They
        take several times the memory of the index.
        """
        batches = self._encoded(params, self._batches(split, numbers, change))
        parts = [jax.device_get(self._encoders.gather(tokens)) for tokens in batches]
        return self._joined(parts, split, numbers)

    def _batches(
        self, split: str, numbers: Sequence[int] | np.ndarray | None = None, change: Change | None = None
    ) -> Iterator[Batch]:
        process = {"process": jax.process_index(), "processes": jax.process_count()}
        return eval_batches(self.data, self.config, split, numbers, change, **process)

    def _encoded(self, params: dict, batches: Iterable[Batch]) -> Iterator[VideoTokens]:
        """Tokens of one batch after the other, on the devices."""
        for batch in batches:
            inputs = {name: batch[name] for name in VIDEO_INPUTS if name in batch}
            yield self._encoders.modalities(params, sharding.to_devices(inputs, self.mesh))

    def _joined(self, parts: Sequence[T], split: str, numbers: Sequence[int] | np.ndarray | None) -> T:
        """Batches in one, without what pads the last."""
        count = len(self.data.sources[split] if numbers is None else numbers)
        return jax.tree.map(lambda *rows: np.concatenate(rows)[:count], *parts)

    def nothing(self, params: dict) -> VideoTokens:
        """Tokens of one video that has neither sound nor speech, NumPy; its frames mean nothing."""
        inputs = {
            "visual": np.zeros((1, 1, self.config.model.embed_dim), np.float32),
            "frame_mask": np.zeros((1, 1), bool),
            "fbank": np.zeros((1, *FBANK_SHAPE), np.float16),
            "speech_ids": np.zeros((1, self.config.data.max_words), np.int32),
        }
        return jax.device_get(self._encoders.one(params, inputs))

    def fuse(self, params: dict, tokens: VideoTokens) -> tuple[VideoIndex, dict]:
        """Index and gates of videos, NumPy."""
        return self.by_batch(functools.partial(self._encoders.fuse, params), tokens)

    def by_batch(self, call: Callable[[VideoTokens], T], tokens: VideoTokens) -> T:
        """What a jitted function gives for the tokens of videos, NumPy, some batches at a time; the last one is padded.

        Fusion needs little memory and little time for a batch: alone, most of its time would be that of the call.
        """
        count, batch = len(tokens.mask), self.config.batch_size
        size = batch * min(_TOGETHER, -(-count // batch))
        mine, parts = sharding.rows_of_process(size), []
        for at in range(0, count, size):
            rows = np.minimum(np.arange(at, at + size), count - 1)[mine]
            part = jax.tree.map(lambda x, rows=rows: x[rows], tokens)
            parts.append(jax.device_get(call(sharding.to_devices(part, self.mesh))))
        return jax.tree.map(lambda *rows: np.concatenate(rows)[:count], *parts)

    def embed_videos(
        self, params: dict, split: str, numbers: Sequence[int] | np.ndarray | None = None, change: Change | None = None
    ) -> VideoIndex:
        """The index of the clips, NumPy."""
        return self._joined(self._embed(params, self._batches(split, numbers, change)), split, numbers)[0]

    def embed(self, params: dict, batches: Iterable[Batch]) -> VideoIndex:
        """The index of batches that `eval_batches` gave, padding included."""
        return jax.tree.map(lambda *rows: np.concatenate(rows), *[index for index, _ in self._embed(params, batches)])

    def _embed(self, params: dict, batches: Iterable[Batch]) -> list[tuple[VideoIndex, dict]]:
        """Index and gates of each batch, NumPy; tokens are held for one batch alone."""
        return [jax.device_get(self._encoders.fuse(params, tokens)) for tokens in self._encoded(params, batches)]

    def embed_texts(self, params: dict, texts: list[str]) -> np.ndarray:
        """Query embeddings, float32 [texts, d]."""
        few = len(texts) <= self.mesh.size  # such as one typed sentence
        size = self.mesh.size if few else self.config.batch_size
        ids = np.stack([self.data.clip_to_arrays.text(text) for text in texts])
        return in_batches(functools.partial(self._encoders.text, params), ids, size, self.mesh).astype(np.float32)

    def score(self, params: dict, texts: np.ndarray, videos: VideoIndex) -> np.ndarray:
        """float32 [texts, videos], tile by tile. Every process computes all of it."""
        model, scale, mesh = self.config.model, jax.device_get(params["logit_scale"]), sharding.local(self.mesh)
        return scoring.all_pairs(texts, videos, scale, mesh, model.temperature, model.score)

    def run(self, params: dict, split: str, keep_tokens: bool = False) -> Evaluation:
        """Evaluates parameters on a split.

        `keep_tokens`: the evaluation also holds the videos' tokens, for results without a modality.

        The gallery holds every clip of the split, also clips without sound and clips that could not be decoded. A clip
        without any frame ranks last for every query. "gallery" counts all of these.
        """
        info = self.data.info(split)
        if not info.captions:
            raise ValueError(
                f"split {split!r} of {self.config.data_dir} has no captions, so there is nothing to evaluate; "
                "save_jax.open_run(WORKDIR, DATA_DIR).search(SENTENCE) searches its videos"
            )
        tokens = self.tokens(params, split) if keep_tokens else None
        if tokens is None:
            videos, gates = self._joined(self._embed(params, self._batches(split)), split, None)
        else:
            videos, gates = self.fuse(params, tokens)
        texts = self.embed_texts(params, info.captions)
        scores = self.score(params, texts, videos)
        results = metrics.retrieval(scores, info.caption_to_video, info.groups)
        results |= {"gallery": info.gallery, "gates": gate_table(gates, info.tags)}
        return Evaluation(results, texts, videos, {"t2v": scores}, info, gates, tokens=tokens)


def gate_table(gates: dict[str, dict[str, np.ndarray]], tags: list[list[str]]) -> dict:
    """Mean absolute gate (gates are signed) by branch and tag: {branch: {tag: {"attention", "mlp", "clips"}}}.

    The tag "all" stands for every clip.
    """
    members = {"all": np.ones(len(tags), bool)} | split_info.members(tags)
    return {
        branch: {
            name: {kind: float(np.abs(values[member]).mean()) for kind, values in kinds.items()}
            | {"clips": int(member.sum())}
            for name, member in members.items()
        }
        for branch, kinds in gates.items()
    }
