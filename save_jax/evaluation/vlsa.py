"""VLSA's evaluation: embeds text, video and audio of a split once, and ranks them in all six directions."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from save_jax import sharding
from save_jax.config.sizes import VlsaSizes
from save_jax.config.vlsa import modalities
from save_jax.data import split_info
from save_jax.data.pipeline import Data, eval_batches
from save_jax.evaluation.contract import Change, Evaluation, in_batches
from save_jax.judge import metrics
from save_jax.models.apply import apply
from save_jax.models.masking import Masking
from save_jax.models.similarity import ABSENT, unit
from save_jax.models.vlsa import Vlsa, errors

FITTED_ON = 2000  # clips
INPUTS = {"video": ("frames", "frame_mask"), "audio": ("spectrogram", "has_audio")}


def cosines(queries: np.ndarray, clips: np.ndarray) -> np.ndarray:
    """Cosines of unit vectors, float32 [queries, clips]; a clip without one (a zero vector) ranks last."""
    return np.where(np.abs(clips).max(axis=1) > 0, queries @ clips.T, np.float32(ABSENT))


@dataclasses.dataclass
class Examples:
    """Masked modelling of a few clips, NumPy."""

    ids: list[str]
    sizes: VlsaSizes
    batch: dict[str, np.ndarray]  # frames, frame_mask, spectrogram
    predictions: dict[str, np.ndarray]  # modality → [clips, h, p], of the masked tokens
    maskings: dict[str, Masking]  # modality → which tokens those are


class VlsaEvaluator:
    """The `contract.Evaluator` of both stages of VLSA."""

    def __init__(self, model: Vlsa, data: Data, config: ConfigDict, mesh: Mesh):
        if config.micro_batch:  # all tokens are read here: four times as many as in pre-training
            config = config.copy_and_resolve_references().unlock()
            config.batch_size = config.micro_batch
        self.model, self.data, self.config, self.mesh = model, data, config, mesh
        self._ranked = tuple(name for name in INPUTS if name in modalities(config))
        self.video_inputs = tuple(name for ranked in self._ranked for name in INPUTS[ranked])
        whole, rows = sharding.replicated(mesh), sharding.by_sample(mesh)

        def embed(params: dict, batch: dict, names: tuple[str, ...]) -> dict:
            return jax.tree.map(unit, apply(Vlsa.embed, model, sharding.gathered(params, mesh), batch, names))

        def embed_clips(params: dict, batch: dict) -> dict:
            return embed(params, batch, self._ranked)

        def embed_words(params: dict, ids: jax.Array) -> jax.Array:
            return embed(params, {"words": ids}, ("text",))["text"]

        def predict(params: dict, batch: dict) -> tuple[dict, dict, dict]:
            masked = apply(Vlsa.masked, model, sharding.gathered(params, mesh), batch)
            return (
                {name: x.predictions for name, x in masked.items()},
                {name: x.masking for name, x in masked.items()},
                {name: batch[name] for name in ("frames", "frame_mask", "spectrogram")},
            )

        def of_targets(predictions: jax.Array, targets: jax.Array, mask: jax.Array) -> tuple[jax.Array, ...]:
            """The number of targets; then their sum and sum of squares, or, of words, how often each one occurs."""
            if targets.ndim == 2:
                return mask.sum(), jnp.zeros(predictions.shape[-1]).at[targets].add(mask)
            kept = jnp.where(mask[..., None], targets, 0)
            return mask.sum(), kept.sum((0, 1)), jnp.square(kept).sum((0, 1))

        def sums(params: dict, batch: dict) -> dict:
            """The summed error of all masked tokens of a batch's real rows, and `of_targets`, by modality."""
            totals = {}
            masked = apply(Vlsa.masked, model, sharding.gathered(params, mesh), batch)
            for name, (predictions, targets, masking) in masked.items():
                mask = masking.masked_mask & batch["real"][:, None]
                error = jnp.where(mask, errors(name, predictions, targets), 0).sum()
                totals[name] = (error, *of_targets(predictions, targets, mask))
            return totals

        def targets_alone(params: dict, batch: dict) -> dict:
            totals = sums(params, batch)  # the compiler drops what is not used: all predictions
            return {name: (0.0, *rest) for name, (_, *rest) in totals.items()}

        self._embed_clips = jax.jit(embed_clips, in_shardings=(None, rows), out_shardings=whole)
        self._embed_words = jax.jit(embed_words, in_shardings=(None, rows), out_shardings=whole)
        self._predict = jax.jit(predict, in_shardings=(None, rows), out_shardings=whole)
        self._sums = jax.jit(sums, in_shardings=(None, rows), out_shardings=whole)
        self._targets = jax.jit(targets_alone, in_shardings=(None, rows), out_shardings=whole)

    def _batches(
        self,
        split: str,
        numbers: Sequence[int] | np.ndarray | None,
        change: Change | None = None,
        data: Data | None = None,
    ) -> Iterator[dict[str, np.ndarray]]:
        """As pipeline.eval_batches, with `draw`, the clip's number, and `real`, which is False for rows that pad."""
        data, count, size = data or self.data, jax.process_count(), self.config.batch_size
        numbers = range(len(data.sources[split])) if numbers is None else numbers
        draws = np.resize(np.asarray(numbers, np.int32), -(-len(numbers) // size) * size)
        mine = sharding.rows_of_process(size)
        batches = eval_batches(data, self.config, split, numbers, change, process=jax.process_index(), processes=count)
        real = np.arange(len(draws)) < len(numbers)
        for at, batch in enumerate(batches):
            here = slice(at * size, (at + 1) * size)
            yield batch | {"draw": draws[here][mine], "real": real[here][mine]}

    def embed_videos(
        self,
        params: dict,
        split: str,
        numbers: Sequence[int] | np.ndarray | None = None,
        change: Change | None = None,
    ) -> dict[str, np.ndarray]:
        """Unit embeddings "video" and "audio" of clips, float32 [clips, d]; zero if a clip has none.

        After fine-tuning: of the modalities that it brought together.
        """
        embedded = self.embed(params, self._batches(split, numbers, change))
        count = len(self.data.sources[split] if numbers is None else numbers)
        return jax.tree.map(lambda rows: rows[:count], embedded)

    def embed(self, params: dict, batches: Iterable[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """As `embed_videos`, for batches that are read already; rows that pad are kept."""
        parts = []
        for batch in batches:
            inputs = {name: batch[name] for name in self.video_inputs}
            parts.append(jax.device_get(self._embed_clips(params, sharding.to_devices(inputs, self.mesh))))
        return jax.tree.map(lambda *rows: np.concatenate(rows), *parts)

    def embed_texts(self, params: dict, texts: list[str]) -> np.ndarray:
        """Unit query embeddings, float32 [texts, d]."""
        few = len(texts) <= self.mesh.size  # such as one typed sentence
        size = self.mesh.size if few else self.config.batch_size
        ids = np.stack([self.data.clip_to_arrays.text(text) for text in texts])
        return in_batches(functools.partial(self._embed_words, params), ids, size, self.mesh)

    def run(self, params: dict, split: str) -> Evaluation:
        """Evaluates parameters on a split. The galleries are complete: what a clip lacks ranks last.

        results: "t2v", "v2t", "t2a", "a2t", "v2a", "a2v" (metrics.summary; absent if a side has no sample at all, and
        after fine-tuning those of pictures or sounds that its pairs do not name), "groups" {name: {"t2v", "t2a"}},
        "tags" {tag of clips: {"v2a", "a2v"}} of tags whose clips can be found, "gallery". Every caption, video and
        sound is a query. If its right answer is missing, such as the sound of a silent clip, the answer ranks last.
        """
        info = self.data.info(split)
        clips = self.embed_videos(params, split)
        texts = self.embed_texts(params, info.captions) if info.captions else np.zeros((0, 1), np.float32)
        has = {name: np.abs(x).max(axis=1) > 0 for name, x in clips.items()}
        results, of_direction, groups = {}, {}, np.asarray(info.groups)
        for name, x in clips.items():
            if not has[name].any() or not info.captions:
                continue
            scores = cosines(texts, x)
            letter, ranks = name[0], metrics.ranks(scores, info.caption_to_video)
            of_direction[f"t2{letter}"] = scores
            results[f"t2{letter}"] = metrics.summary(ranks)
            captioned, own = np.unique(info.caption_to_video, return_inverse=True)
            queries = np.flatnonzero(has[name][captioned])
            best = metrics.best_captions(scores[:, captioned], own)
            results[f"{letter}2t"] = metrics.summary(metrics.ranks(best[queries], queries))
            for group in np.unique(groups[groups != ""]):
                of_group = results.setdefault("groups", {}).setdefault(str(group), {})
                of_group[f"t2{letter}"] = metrics.summary(ranks[groups == group])
        for query, answer in (("video", "audio"), ("audio", "video")) if len(clips) == 2 else ():
            queries = np.flatnonzero(has[query])
            if len(queries) and has[answer].any():
                ranks = metrics.ranks(cosines(clips[query][queries], clips[answer]), queries)
                direction = f"{query[0]}2{answer[0]}"
                results[direction] = metrics.summary(ranks)
                for tag, members in split_info.members(info.tags).items():
                    if (members & has[query] & has[answer]).any():
                        of_tag = results.setdefault("tags", {}).setdefault(tag, {})
                        of_tag[direction] = metrics.summary(ranks[members[queries]])
        results["gallery"] = info.gallery | {f"with_{name}": int(x.sum()) for name, x in has.items()}
        return Evaluation(results | {"groups": results.get("groups", {})}, texts, clips, of_direction, info)

    def examples(self, params: dict, split: str, count: int = 4) -> Examples:
        """Masked modelling of evenly spaced clips that have pictures and sound."""
        info = self.data.info(split)
        numbers = [n for n, id in enumerate(info.ids) if info.sound[n] and id not in info.gallery["failed"]]
        numbers = numbers or list(range(len(info.ids)))
        count = min(count, len(numbers), self.config.batch_size)
        numbers = [numbers[at] for at in np.linspace(0, len(numbers) - 1, count).astype(int)]
        batch = next(self._batches(split, numbers))
        outputs = jax.device_get(self._predict(params, sharding.to_devices(batch, self.mesh)))
        predictions, maskings, inputs = jax.tree.map(lambda x: x[:count], outputs)
        return Examples([info.ids[n] for n in numbers], self.model.sizes, inputs, predictions, maskings)

    def masked_errors(self, params: dict, split: str, train: Data) -> dict[str, dict[str, float]]:
        """{modality: {"model", "mean predictor", "hidden"}}: errors on a split's masked tokens, and their number.

        The key "hidden" is in stored results. The mean predictor is fitted on the training split of `train` (at most
        `FITTED_ON` clips): it predicts the mean of each value of a patch, and words by their frequency, with a tenth
        added to every count.
        """
        fitted = self._total(self._targets, params, train, "train", FITTED_ON)
        table = {}
        for name, (error, masked, *tested) in self._total(self._sums, params, self.data, split).items():
            _, count, first, *_ = fitted[name]
            if not masked or not count:
                continue
            if name == "text":
                constant = -(tested[0] @ np.log((first + 0.1) / (count + 0.1 * len(first)))) / masked
            else:
                mean = first / count
                constant = np.mean(tested[1] / masked - 2 * mean * tested[0] / masked + mean**2)
            table[name] = {"model": error / masked, "mean predictor": float(constant), "hidden": int(masked)}
        return table

    def _total(self, run: Callable, params: dict, data: Data, split: str, most: int | None = None) -> dict:
        """The sum over batches, float64."""
        numbers = range(min(len(data.sources[split]), most or len(data.sources[split])))
        parts = (
            jax.tree.map(np.float64, jax.device_get(run(params, sharding.to_devices(batch, self.mesh))))
            for batch in self._batches(split, numbers, data=data)
        )
        return functools.reduce(lambda total, part: jax.tree.map(np.add, total, part), parts)
