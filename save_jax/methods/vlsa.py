"""VLSA, its pre-training and its fine-tuning: model, objective, evaluator, and what is reported of them."""

import numpy as np
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from save_jax.config.vlsa import DIRECTIONS, MODALITIES, NAMES, modalities
from save_jax.data import records
from save_jax.data.pipeline import Data
from save_jax.evaluation import assessment
from save_jax.evaluation.contract import Evaluation, Trained
from save_jax.evaluation.vlsa import VlsaEvaluator
from save_jax.models.vlsa import make_model
from save_jax.report import tables, vlsa_page, vlsa_plots, vlsa_tables
from save_jax.training import optim
from save_jax.training.contract import Checkpoint
from save_jax.training.vlsa_objectives import Finetuning, Pretraining
from save_jax.weights.checkpoint import METRIC


class VlsaMethod:
    """As `training.contract.Method` says."""

    def __init__(self, config: ConfigDict, mesh: Mesh):
        self.config, self.mesh = config, mesh
        self.pretrains = config.task == "vlsa-pretrain"
        self.model = make_model(config, mesh)
        self.objective = (Pretraining if self.pretrains else Finetuning)(self.model, config)

    def optimizer(self, total_steps: int) -> optax.GradientTransformation:
        return optim.adamw(self.config.optim, total_steps)

    def prepare(self, data: Data, params: dict) -> Data:
        """Fine-tuning needs captions everywhere, and in validation something to pick by."""
        if not self.pretrains:
            self._check_finetuning(data)
        return data

    def evaluator(self, data: Data) -> VlsaEvaluator:
        return VlsaEvaluator(self.model, data, self.config, self.mesh)

    def judge(self, results: dict, split: str) -> tuple[float | None, str]:
        """Retrieval; in pre-training, which captions have no part in, nothing is picked by it."""
        pick, ranked = self.config.evaluation.pick, [name for name in DIRECTIONS if name in results]
        if self.pretrains:
            shown = pick if pick in results else next(iter(ranked), None)
            return None, f"{shown} {tables.one_line(results[shown])}" if shown else "has nothing to rank"
        if pick not in results:
            raise ValueError(
                f"config.evaluation.pick={pick}: split {split} has nothing to rank in that direction, only "
                f"{', '.join(ranked)}"
            )
        return results[pick][METRIC], f"{pick} {tables.one_line(results[pick])}"

    def assess(self, evaluator: VlsaEvaluator, params: dict, split: str) -> Evaluation:
        """After pre-training also errors on masked tokens beside the mean predictor's, and a few examples."""
        evaluation = assessment.assess_common(evaluator, params, split, evaluator.run(params, split))
        if self.pretrains:
            if train := self._train(evaluator.data):
                evaluation.results["masked"] = evaluator.masked_errors(params, split, train)
            evaluation.examples = evaluator.examples(params, split)
        return evaluation

    def compare(
        self, evaluator: VlsaEvaluator, evaluation: Evaluation, picked: Checkpoint, last: Checkpoint
    ) -> dict[str, dict]:
        return {"evaluated": {"step": picked.step}, "last": {"step": last.step}}

    def tables(self, results: dict, rows: list[dict]) -> str:
        return vlsa_tables.whole(results)

    def figures(self, results: dict, rows: list[dict], evaluation: Evaluation, data: Data, folder: str) -> list[str]:
        return vlsa_plots.write_all(rows, results, evaluation, data, folder)

    def page(self, run: Trained, evaluation: Evaluation, results: dict, rows: list[dict], count: int, told: str) -> str:
        return vlsa_page.render(run, evaluation, results, rows, count, told)

    def _train(self, data: Data) -> Data | None:
        """The training split: --mode=eval and the page open no more than they rank. None where there is none."""
        if "train" in data.sources:
            return data
        return Data(self.config, ("train",)) if "train" in records.splits(data.directory) else None

    def _check_finetuning(self, data: Data) -> None:
        config = self.config
        if not set(NAMES[config.evaluation.pick].split(" → ")) <= {"text", *modalities(config)}:
            raise ValueError(
                f"config.evaluation.pick={config.evaluation.pick}, and config.loss.pairs={tuple(config.loss.pairs)} "
                "leave that direction as it was, so it is not ranked; set config.evaluation.pick to one between them"
            )
        for split in (config.data.val_split, config.data.test_split):
            if not data.info(split).captions:
                raise ValueError(f"split {split!r} of {config.data_dir} has no captions, so nothing can be ranked")
        train, val = (_modalities(data, split) for split in ("train", config.data.val_split))
        pairs, pick = config.loss.pairs, config.evaluation.pick
        if not any(set(pair.split("-")) <= train for pair in pairs):
            raise ValueError(
                f"config.loss.pairs={tuple(pairs)}: the training split of {config.data_dir} holds "
                f"{', '.join(sorted(train))} alone; set config.loss.pairs to two of them, such as text-audio"
            )
        if not set(NAMES[pick].split(" → ")) <= val:
            raise ValueError(
                f"config.evaluation.pick={pick}: split {config.data.val_split!r} holds {', '.join(sorted(val))} "
                "alone; set config.evaluation.pick to a direction between two of them, such as t2a"
            )


def _modalities(data: Data, split: str) -> set[str]:
    """Which modalities a sample of a split's clips has, captions being its text."""
    source, modalities = data.sources[split], {"text"}
    for number in np.unique(np.linspace(0, len(source) - 1, 256).astype(int)):
        clip = source[number]
        modalities |= {"video"} if clip.frames else set()
        modalities |= {"audio"} if clip.spectrogram is not None else set()
        if len(modalities) == len(MODALITIES):
            break
    return modalities
