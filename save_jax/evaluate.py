"""Evaluation: embed a split once, score every text against every video, rank both ways, look at the gates."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from save_jax import metrics, ranking, sharding, similarity
from save_jax.data.pipeline import Data, eval_batches
from save_jax.data.records import Clip
from save_jax.data.tokenizer import says_something
from save_jax.models.retrieval import Retrieval

# As far as a batch has them; the last three are stored outputs of frozen towers.
VIDEO_INPUTS = ("frames", "frame_mask", "fbank", "speech_ids", "visual", "ast", "speech")


@dataclasses.dataclass
class Evaluation:
    """One split under one set of parameters. Rows of `scores` are captions, columns are the complete gallery."""

    results: dict  # metrics.retrieval, plus "gallery" and "gates"
    scores: np.ndarray  # float32 [captions, videos]
    texts: np.ndarray  # float32 [captions, d]
    videos: similarity.VideoIndex  # NumPy
    notes: "Notes"
    gates: dict[str, dict[str, np.ndarray]]  # branch → "attention" | "mlp" → float32 [videos, layers]


@dataclasses.dataclass
class Notes:
    """What is known of a split besides pictures and sound."""

    ids: list[str]
    captions: list[str]
    owners: np.ndarray  # int [captions], the video of each
    groups: list[str]  # query group of each caption
    tags: list[list[str]]  # of each video
    sound: np.ndarray  # bool [videos], whether there is any
    transcripts: list[str]  # of each video; "" where the model reads none
    gallery: dict  # counts, and the clips that failed


def read_notes(data: Data, split: str) -> Notes:
    """What is known of a split, from its records."""
    source = data.sources[split]
    captions, groups, tags, sound, transcripts = [], [], [], [], []
    for number in range(len(source)):
        clip = source[number]
        captions += clip.captions
        groups += clip.groups
        tags.append(clip.tags)
        sound.append(clip.fbank is not None or clip.spectrogram is not None)
        transcripts.append(clip.transcript if says_something(clip.transcript) else "")
    gallery = {
        "videos": len(source),
        "captions": len(captions),
        "without_captions": int((source.caption_counts == 0).sum()),
        "without_sound": sound.count(False),
        "without_transcript": transcripts.count(""),
        "failed": source.failed,
    }
    owners = np.repeat(np.arange(len(source)), source.caption_counts)
    return Notes(source.ids, captions, owners, groups, tags, np.array(sound), transcripts, gallery)


def in_batches(encode: Callable[[jax.Array], jax.Array], ids: np.ndarray, size: int, mesh: Mesh) -> np.ndarray:
    """Rows of `encode`, whole in every process, for token ids [n, w], `size` at a time; the last batch is padded."""
    padded = np.concatenate([ids, np.repeat(ids[:1], -len(ids) % size, axis=0)])
    mine = sharding.rows_of_process(size)
    parts = [
        jax.device_get(encode(sharding.to_devices({"ids": padded[at : at + size][mine]}, mesh)["ids"]))
        for at in range(0, len(padded), size)
    ]
    return np.concatenate(parts)[: len(ids)]


class Evaluator:
    """Compiles the two encoders once; `run` may then be called with any parameters."""

    def __init__(self, model: Retrieval, data: Data, config: ConfigDict, mesh: Mesh):
        self.data, self.config, self.mesh = data, config, mesh
        whole, rows = sharding.replicated(mesh), sharding.by_sample(mesh)

        def encode_video(params: dict, batch: dict) -> tuple[similarity.VideoIndex, dict]:
            params = {"params": sharding.gathered(params, mesh)}
            video = model.apply(params, batch, method=Retrieval.encode_video)
            gates = {
                branch: {"attention": fused.attention_gates, "mlp": fused.mlp_gates}
                for branch, fused in (("audio", video.audio_fused), ("speech", video.speech_fused))
                if fused is not None
            }
            return similarity.index(video.fused, batch["frame_mask"]), gates

        def encode_text(params: dict, ids: jax.Array) -> jax.Array:
            params = {"params": sharding.gathered(params, mesh)}
            return model.apply(params, ids, method=Retrieval.encode_text)

        # Embeddings are small; whole on every device, every process can read all of them.
        self._encode_video = jax.jit(encode_video, in_shardings=(None, rows), out_shardings=whole)
        self._encode_text = jax.jit(encode_text, in_shardings=(None, rows), out_shardings=whole)
        self._notes: dict[str, Notes] = {}

    def notes(self, split: str) -> Notes:
        """Texts and counts of a split, read once."""
        if split not in self._notes:
            self._notes[split] = read_notes(self.data, split)
        return self._notes[split]

    def embed_videos(
        self,
        params: dict,
        split: str,
        numbers: Sequence[int] | None = None,
        change: Callable[[Clip, int], Clip] | None = None,
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

    def embed_texts(self, params: dict, texts: list[str]) -> np.ndarray:
        """Query embeddings, float32 [texts, d]."""
        few = len(texts) <= self.mesh.size  # such as one typed sentence
        size = self.mesh.size if few else self.config.batch_size
        ids = np.stack([self.data.clip_to_arrays.text(text) for text in texts])
        return in_batches(functools.partial(self._encode_text, params), ids, size, self.mesh).astype(np.float32)

    def score(self, params: dict, texts: np.ndarray, videos: similarity.VideoIndex) -> np.ndarray:
        """float32 [texts, videos], tile by tile; every process computes all of it."""
        model, scale, mesh = self.config.model, jax.device_get(params["logit_scale"]), sharding.local(self.mesh)
        return ranking.all_pairs(texts, videos, scale, mesh, model.temperature, model.score)

    def run(self, params: dict, split: str) -> Evaluation:
        """Evaluates parameters on a split.

        The gallery holds every clip of the split: one without sound or that failed to decode stays in it, is ranked
        last by every query where it has no frame, and is counted under "gallery".
        """
        notes = self.notes(split)
        if not notes.captions:
            raise ValueError(
                f"split {split!r} of {self.config.data_dir} has no captions, so there is nothing to evaluate; "
                "save_jax.runs.open_run(WORKDIR, DATA_DIR).search(SENTENCE) searches its videos"
            )
        videos, gates = self.embed_videos(params, split)
        texts = self.embed_texts(params, notes.captions)
        scores = self.score(params, texts, videos)
        results = metrics.retrieval(scores, notes.owners, notes.groups)
        results |= {"gallery": notes.gallery, "gates": gate_table(gates, notes.tags)}
        return Evaluation(results, scores, texts, videos, notes, gates)


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
