"""SAVE's evaluator: embeds a split once, scores every text against every video, ranks both ways, averages gates."""

import functools
from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from save_jax import sharding
from save_jax.data.pipeline import Data, eval_batches
from save_jax.evaluation import metrics, scoring
from save_jax.evaluation.contract import Change, Evaluation, in_batches
from save_jax.models import similarity
from save_jax.models.apply import apply
from save_jax.models.retrieval import Retrieval

# A batch has some of them. The last three are stored outputs of frozen towers.
VIDEO_INPUTS = ("frames", "frame_mask", "fbank", "speech_ids", "visual", "ast", "speech")


def encoders(model: Retrieval, mesh: Mesh) -> tuple[Callable, Callable]:
    """The two jitted encoders: (params, batch) → (index of the videos, gates) and (params, ids) → query embeddings."""
    whole, rows = sharding.replicated(mesh), sharding.by_sample(mesh)

    def encode_video(params: dict, batch: dict) -> tuple[similarity.VideoIndex, dict]:
        video = apply(Retrieval.encode_video, model, sharding.gathered(params, mesh), batch)
        gates = {
            branch: {"attention": fused.attention_gates, "mlp": fused.mlp_gates}
            for branch, fused in (("audio", video.audio_fused), ("speech", video.speech_fused))
            if fused is not None
        }
        return similarity.index(video.fused, batch["frame_mask"]), gates

    def encode_text(params: dict, ids: jax.Array) -> jax.Array:
        return apply(Retrieval.encode_text, model, sharding.gathered(params, mesh), ids)

    # Embeddings are small. They are replicated, so that every process can read all of them.
    return (
        jax.jit(encode_video, in_shardings=(None, rows), out_shardings=whole),
        jax.jit(encode_text, in_shardings=(None, rows), out_shardings=whole),
    )


class RetrievalEvaluator:
    """The `contract.Evaluator` of SAVE, AVIGATE and vision."""

    def __init__(self, model: Retrieval, data: Data, config: ConfigDict, mesh: Mesh):
        self.data, self.config, self.mesh = data, config, mesh
        self._encode_video, self._encode_text = encoders(model, mesh)

    def embed_with_gates(
        self, params: dict, split: str, numbers: Sequence[int] | np.ndarray | None = None, change: Change | None = None
    ) -> tuple[similarity.VideoIndex, dict]:
        """Index and gates of the clips of a split, NumPy, in the split's order; `numbers`, `change` as eval_batches."""
        batches = [
            jax.device_get(
                self._encode_video(
                    params, sharding.to_devices({k: batch[k] for k in VIDEO_INPUTS if k in batch}, self.mesh)
                )
            )
            for batch in eval_batches(
                self.data,
                self.config,
                split,
                numbers,
                change,
                process=jax.process_index(),
                processes=jax.process_count(),
            )
        ]
        count = len(self.data.sources[split] if numbers is None else numbers)
        return jax.tree.map(lambda *parts: np.concatenate(parts)[:count], *batches)

    def embed_videos(
        self, params: dict, split: str, numbers: Sequence[int] | np.ndarray | None = None, change: Change | None = None
    ) -> similarity.VideoIndex:
        """The index alone, NumPy."""
        return self.embed_with_gates(params, split, numbers, change)[0]

    def embed_texts(self, params: dict, texts: list[str]) -> np.ndarray:
        """Query embeddings, float32 [texts, d]."""
        few = len(texts) <= self.mesh.size  # such as one typed sentence
        size = self.mesh.size if few else self.config.batch_size
        ids = np.stack([self.data.clip_to_arrays.text(text) for text in texts])
        return in_batches(functools.partial(self._encode_text, params), ids, size, self.mesh).astype(np.float32)

    def score(self, params: dict, texts: np.ndarray, videos: similarity.VideoIndex) -> np.ndarray:
        """float32 [texts, videos], tile by tile. Every process computes all of it."""
        model, scale, mesh = self.config.model, jax.device_get(params["logit_scale"]), sharding.local(self.mesh)
        return scoring.all_pairs(texts, videos, scale, mesh, model.temperature, model.score)

    def run(self, params: dict, split: str) -> Evaluation:
        """Evaluates parameters on a split.

        The gallery holds every clip of the split, also clips without sound and clips that could not be decoded. A clip
        without any frame ranks last for every query. "gallery" counts all of these.
        """
        info = self.data.info(split)
        if not info.captions:
            raise ValueError(
                f"split {split!r} of {self.config.data_dir} has no captions, so there is nothing to evaluate; "
                "save_jax.open_run(WORKDIR, DATA_DIR).search(SENTENCE) searches its videos"
            )
        videos, gates = self.embed_with_gates(params, split)
        texts = self.embed_texts(params, info.captions)
        scores = self.score(params, texts, videos)
        results = metrics.retrieval(scores, info.caption_to_video, info.groups)
        results |= {"gallery": info.gallery, "gates": gate_table(gates, info.tags)}
        return Evaluation(results, texts, videos, {"t2v": scores}, info, gates)


def gate_table(gates: dict[str, dict[str, np.ndarray]], tags: list[list[str]]) -> dict:
    """Mean absolute gate (gates are signed) by branch and tag: {branch: {tag: {"attention", "mlp", "clips"}}}.

    The tag "all" stands for every clip.
    """
    names = sorted({tag for clip in tags for tag in clip})
    members = {"all": np.ones(len(tags), bool)} | {name: np.array([name in clip for clip in tags]) for name in names}
    return {
        branch: {
            name: {kind: float(np.abs(values[member]).mean()) for kind, values in kinds.items()}
            | {"clips": int(member.sum())}
            for name, member in members.items()
        }
        for branch, kinds in gates.items()
    }
