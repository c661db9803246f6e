"""VLSA's evaluation: text, video and audio of a split embedded once, ranked in all six directions."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from save_jax import sharding
from save_jax.config.sizes import VlsaSizes
from save_jax.data.pipeline import Data, eval_batches
from save_jax.evaluation import metrics
from save_jax.evaluation.contract import Change, Evaluation, in_batches
from save_jax.models.similarity import ABSENT, unit
from save_jax.models.vlsa import Vlsa, errors

FITTED_ON = 2000  # clips
INPUTS = {"video": ("frames", "frame_mask"), "audio": ("spectrogram", "has_audio")}


def cosines(queries: np.ndarray, clips: np.ndarray) -> np.ndarray:
    """Cosines of unit vectors, float32 [queries, clips]; a clip that has none (a zero vector) is ranked last."""
    return np.where(np.abs(clips).max(axis=1) > 0, queries @ clips.T, np.float32(ABSENT))


@dataclasses.dataclass
class Examples:
    """What masked modelling makes of a few clips, NumPy."""

    ids: list[str]
    sizes: VlsaSizes
    batch: dict[str, np.ndarray]  # frames, frame_mask, spectrogram
    found: dict[str, dict]  # modality → guess, choice: as of Vlsa.masked


class VlsaEvaluator:
    """Of VLSA's two stages, as `contract.Evaluator` says."""

    def __init__(self, model: Vlsa, data: Data, config: ConfigDict, mesh: Mesh):
        if config.micro_batch:  # all tokens are read here, four times as many as in pre-training
            config = config.copy_and_resolve_references().unlock()
            config.batch_size = config.micro_batch
        self.model, self.data, self.config, self.mesh = model, data, config, mesh
        whole, rows = sharding.replicated(mesh), sharding.by_sample(mesh)

        def embed(params: dict, batch: dict, names: tuple[str, ...]) -> dict:
            params = {"params": sharding.gathered(params, mesh)}
            return jax.tree.map(unit, model.apply(params, batch, names, method=Vlsa.embed))

        def embed_clips(params: dict, batch: dict) -> dict:
            return embed(params, batch, ("video", "audio"))

        def embed_words(params: dict, ids: jax.Array) -> jax.Array:
            return embed(params, {"words": ids}, ("text",))["text"]

        def guess(params: dict, batch: dict) -> dict:
            params = {"params": sharding.gathered(params, mesh)}
            found = model.apply(params, batch, method=Vlsa.masked)
            guesses = {name: {"guess": guesses, "choice": choice} for name, (guesses, _, choice) in found.items()}
            return guesses | {"batch": {name: batch[name] for name in ("frames", "frame_mask", "spectrogram")}}

        def of_targets(guesses: jax.Array, targets: jax.Array, there: jax.Array) -> tuple[jax.Array, ...]:
            """How many there are, and their sum and squares; of words, how many of each."""
            if targets.ndim == 2:
                return there.sum(), jnp.zeros(guesses.shape[-1]).at[targets].add(there)
            kept = jnp.where(there[..., None], targets, 0)
            return there.sum(), kept.sum((0, 1)), jnp.square(kept).sum((0, 1))

        def sums(params: dict, batch: dict) -> dict:
            """Of all hidden tokens of a batch, but for those of padding: errors, and what `of_targets` gives."""
            params = {"params": sharding.gathered(params, mesh)}
            found = {}
            for name, (guesses, targets, choice) in model.apply(params, batch, method=Vlsa.masked).items():
                there = choice.hidden_there & batch["real"][:, None]
                wrong = jnp.where(there, errors(name, guesses, targets), 0).sum()
                found[name] = (wrong, *of_targets(guesses, targets, there))
            return found

        def targets_alone(params: dict, batch: dict) -> dict:
            found = sums(params, batch)  # the compiler leaves out what nobody asks for: all guesses
            return {name: (0.0, *rest) for name, (_, *rest) in found.items()}

        self._embed_clips = jax.jit(embed_clips, in_shardings=(None, rows), out_shardings=whole)
        self._embed_words = jax.jit(embed_words, in_shardings=(None, rows), out_shardings=whole)
        self._guess = jax.jit(guess, in_shardings=(None, rows), out_shardings=whole)
        self._sums = jax.jit(sums, in_shardings=(None, rows), out_shardings=whole)
        self._targets = jax.jit(targets_alone, in_shardings=(None, rows), out_shardings=whole)

    def _batches(
        self,
        split: str,
        numbers: Sequence[int] | None,
        change: Change | None = None,
        data: Data | None = None,
    ) -> Iterator[dict[str, np.ndarray]]:
        """As pipeline.eval_batches, with a `draw` that is the clip's number, and `real`, false where a row pads."""
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
        numbers: Sequence[int] | None = None,
        change: Change | None = None,
    ) -> dict[str, np.ndarray]:
        """Unit embeddings "video" and "audio" of clips, float32 [clips, d]; zero where a clip has none."""
        wanted = [name for names in INPUTS.values() for name in names]
        parts = [
            jax.device_get(
                self._embed_clips(params, sharding.to_devices({name: batch[name] for name in wanted}, self.mesh))
            )
            for batch in self._batches(split, numbers, change)
        ]
        count = len(self.data.sources[split] if numbers is None else numbers)
        return jax.tree.map(lambda *rows: np.concatenate(rows)[:count], *parts)

    def embed_texts(self, params: dict, texts: list[str]) -> np.ndarray:
        """Unit query embeddings, float32 [texts, d]."""
        ids = np.stack([self.data.clip_to_arrays.text(text) for text in texts])
        return in_batches(functools.partial(self._embed_words, params), ids, self.config.batch_size, self.mesh)

    def run(self, params: dict, split: str) -> Evaluation:
        """Evaluates parameters on a split. The galleries are complete: what a clip lacks is ranked last.

        results: "t2v", "v2t", "t2a", "a2t", "v2a", "a2v" (metrics.summary; absent where a side has no sample at all),
        "groups" {name: {"t2v", "t2a"}}, "gallery". A query is whatever is there to ask with; one whose right answer is
        missing (a caption of a silent clip asks for a sound) counts as not found.
        """
        info = self.data.info(split)
        clips = self.embed_videos(params, split)
        texts = self.embed_texts(params, info.captions) if info.captions else np.zeros((0, 1), np.float32)
        there = {name: np.abs(x).max(axis=1) > 0 for name, x in clips.items()}
        results, of_direction, groups = {}, {}, np.asarray(info.groups)
        for name, x in clips.items():
            if not there[name].any() or not info.captions:
                continue
            scores = cosines(texts, x)
            letter, found = name[0], metrics.ranks(scores, info.caption_to_video)
            of_direction[f"t2{letter}"] = scores
            results[f"t2{letter}"] = metrics.summary(found)
            captioned, own = np.unique(info.caption_to_video, return_inverse=True)
            asks = np.flatnonzero(there[name][captioned])
            best = metrics.best_captions(scores[:, captioned], own)
            results[f"{letter}2t"] = metrics.summary(metrics.ranks(best[asks], asks))
            for group in np.unique(groups[groups != ""]):
                of_group = results.setdefault("groups", {}).setdefault(str(group), {})
                of_group[f"t2{letter}"] = metrics.summary(found[groups == group])
        for query, answer in (("video", "audio"), ("audio", "video")):
            asks = np.flatnonzero(there[query])
            if len(asks) and there[answer].any():
                found = metrics.ranks(cosines(clips[query][asks], clips[answer]), asks)
                results[f"{query[0]}2{answer[0]}"] = metrics.summary(found)
        results["gallery"] = info.gallery | {f"with_{name}": int(x.sum()) for name, x in there.items()}
        return Evaluation(results | {"groups": results.get("groups", {})}, texts, clips, of_direction, info)

    def examples(self, params: dict, split: str, count: int = 4) -> Examples:
        """Evenly spaced clips that have pictures and sound, and what becomes of them."""
        info = self.data.info(split)
        numbers = [n for n, id in enumerate(info.ids) if info.sound[n] and id not in info.gallery["failed"]]
        numbers = numbers or list(range(len(info.ids)))
        count = min(count, len(numbers), self.config.batch_size)
        numbers = [numbers[at] for at in np.linspace(0, len(numbers) - 1, count).astype(int)]
        batch = next(self._batches(split, numbers))
        found = jax.device_get(self._guess(params, sharding.to_devices(batch, self.mesh)))
        found = jax.tree.map(lambda x: x[:count], found)
        return Examples([info.ids[n] for n in numbers], self.model.sizes, found.pop("batch"), found)

    def masked_errors(self, params: dict, split: str, train: Data) -> dict[str, dict[str, float]]:
        """{modality: {"model", "mean predictor", "hidden"}}: errors on a split's hidden tokens, and their number.

        The mean predictor knows the training split of `train` (at most `FITTED_ON` clips): the mean of each value of a
        patch, and how often a word occurs, with a tenth added to every count.
        """
        fitted = self._total(self._targets, params, train, "train", FITTED_ON)
        table = {}
        for name, (wrong, hidden, *tested) in self._total(self._sums, params, self.data, split).items():
            _, count, first, *_ = fitted[name]
            if not hidden or not count:
                continue
            if name == "text":
                constant = -(tested[0] @ np.log((first + 0.1) / (count + 0.1 * len(first)))) / hidden
            else:
                mean = first / count
                constant = np.mean(tested[1] / hidden - 2 * mean * tested[0] / hidden + mean**2)
            table[name] = {"model": wrong / hidden, "mean predictor": float(constant), "hidden": int(hidden)}
        return table

    def _total(self, run: Callable, params: dict, data: Data, split: str, most: int | None = None) -> dict:
        """The sum over batches, float64."""
        total, numbers = None, range(min(len(data.sources[split]), most or len(data.sources[split])))
        for batch in self._batches(split, numbers, data=data):
            found = jax.device_get(run(params, sharding.to_devices(batch, self.mesh)))
            found = jax.tree.map(np.float64, found)
            total = found if total is None else jax.tree.map(np.add, total, found)
        return total
