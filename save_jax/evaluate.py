"""Evaluation: embed a split once, score every text against every video, rank both ways, look at the gates."""

import dataclasses

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from save_jax import metrics, sharding, similarity
from save_jax.data.pipeline import Data, eval_batches
from save_jax.models.retrieval import Retrieval


@dataclasses.dataclass
class Evaluation:
    """One split under one set of parameters. Rows of `scores` are captions, columns are the complete gallery."""

    results: dict  # metrics.retrieval, plus "gallery" and "gates"
    scores: np.ndarray  # float32 [captions, videos]
    captions: list[str]
    owners: np.ndarray  # int [captions], the video of each
    groups: list[str]
    ids: list[str]
    tags: list[list[str]]
    gates: dict[str, dict[str, np.ndarray]]  # branch → "attention" | "mlp" → float32 [videos, layers]


class Evaluator:
    """Compiles the two encoders once; `run` may then be called with any parameters."""

    def __init__(self, model: Retrieval, data: Data, config: ConfigDict, mesh: Mesh):
        self.data, self.config, self.mesh = data, config, mesh
        whole, rows = sharding.replicated(mesh), sharding.by_sample(mesh)

        def encode_video(params: dict, batch: dict) -> tuple[similarity.VideoIndex, dict]:
            video = model.apply(
                {"params": params},
                batch["frames"],
                batch.get("fbank"),
                batch.get("speech_ids"),
                method=Retrieval.encode_video,
            )
            gates = {
                branch: {"attention": fused.attention_gates, "mlp": fused.mlp_gates}
                for branch, fused in (("audio", video.audio_fused), ("speech", video.speech_fused))
                if fused is not None
            }
            return similarity.index(video.fused, batch["frame_mask"]), gates

        def encode_text(params: dict, ids: jax.Array) -> jax.Array:
            return model.apply({"params": params}, ids, method=Retrieval.encode_text)

        def score(texts: jax.Array, videos: similarity.VideoIndex, logit_scale: jax.Array) -> jax.Array:
            return similarity.score(texts, videos, logit_scale, config.model.temperature)

        self._encode_video = jax.jit(encode_video, in_shardings=(whole, rows), out_shardings=rows)
        self._encode_text = jax.jit(encode_text, in_shardings=(whole, rows), out_shardings=rows)
        self._score = jax.jit(score, out_shardings=whole)

    def embed_videos(self, params: dict, split: str) -> tuple[similarity.VideoIndex, dict]:
        """Index and gates of every clip of a split, NumPy, in the split's order."""
        batches = [
            jax.device_get(self._encode_video(params, sharding.to_devices(batch, self.mesh)))
            for batch in eval_batches(self.data, self.config, split)
        ]
        count = len(self.data.sources[split])
        return jax.tree.map(lambda *parts: np.concatenate(parts)[:count], *batches)

    def embed_texts(self, params: dict, texts: list[str]) -> np.ndarray:
        """Query embeddings, float32 [texts, d]."""
        size, words = self.config.batch_size, self.config.data.max_words
        ids = np.stack([self.data.tokenizer(text, words) for text in texts])
        padded = np.concatenate([ids, np.repeat(ids[:1], -len(ids) % size, axis=0)])
        parts = [
            jax.device_get(
                self._encode_text(params, sharding.to_devices({"ids": padded[i : i + size]}, self.mesh)["ids"])
            )
            for i in range(0, len(padded), size)
        ]
        return np.concatenate(parts)[: len(texts)].astype(np.float32)

    def run(self, params: dict, split: str) -> Evaluation:
        """Evaluates parameters on a split.

        The gallery holds every clip of the split: one without sound or that failed to decode stays in it, is ranked
        last by every query where it has no frame, and is counted under "gallery".
        """
        source = self.data.sources[split]
        clips = [source[number] for number in range(len(source))]
        captions = [caption for clip in clips for caption in clip.captions]
        owners = np.repeat(np.arange(len(clips)), source.caption_counts)
        groups = [group for clip in clips for group in clip.groups]
        videos, gates = self.embed_videos(params, split)
        texts = self.embed_texts(params, captions)
        scores = np.asarray(self._score(texts, videos, params["logit_scale"]))
        results = metrics.retrieval(scores, owners, groups)
        results["gallery"] = {
            "videos": len(clips),
            "captions": len(captions),
            "without_sound": sum(clip.fbank is None for clip in clips),
            "without_transcript": sum(not clip.transcript for clip in clips),
            "failed": source.failed,
        }
        tags = [clip.tags for clip in clips]
        results["gates"] = gate_table(gates, tags)
        return Evaluation(results, scores, captions, owners, groups, source.ids, tags, gates)


def gate_table(gates: dict[str, dict[str, np.ndarray]], tags: list[list[str]]) -> dict:
    """Mean absolute gate (gates are signed) by branch and tag: {branch: {tag: {"attention", "mlp", "clips"}}}."""
    names = sorted({tag for clip in tags for tag in clip})
    members = {name: np.array([name in clip for clip in tags]) for name in names}
    return {
        branch: {
            name: {kind: float(np.abs(values[member]).mean()) for kind, values in kinds.items()}
            | {"clips": int(member.sum())}
            for name, member in members.items()
        }
        for branch, kinds in gates.items()
    }
