"""SAVE, AVIGATE and vision only: model, objective, evaluator, and what is reported of them."""

import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from save_jax import sharding
from save_jax.config import method
from save_jax.data.pipeline import Data
from save_jax.evaluation import assessment
from save_jax.evaluation.contract import Evaluation, Trained, bank_split
from save_jax.evaluation.retrieval import RetrievalEvaluator
from save_jax.models.retrieval import make_model
from save_jax.report import page, plots, tables
from save_jax.training import optim, tower_cache
from save_jax.training.contract import Checkpoint
from save_jax.training.objectives import RetrievalObjective
from save_jax.weights.checkpoint import METRIC


class RetrievalMethod:
    """As `training.contract.Method` says. Which of the three it is depends on config.model.branches."""

    def __init__(self, config: ConfigDict, mesh: Mesh):
        self.config, self.mesh = config, mesh
        self.model = make_model(config, mesh)
        self.objective = RetrievalObjective(self.model, config)

    def optimizer(self, total_steps: int) -> optax.GradientTransformation:
        return optim.make_optimizer(self.config.optim, total_steps)

    def prepare(self, data: Data, params: dict) -> Data:
        """Opens stored towers. Refuses corpora of sounds, whose first clips tell, and splits that cannot be ranked."""
        config, source = self.config, data.sources["train"]
        for split in (config.data.val_split, config.data.test_split):
            if not data.sources[split].caption_counts.sum():
                raise ValueError(
                    f"split {split!r} of {config.data_dir} has no captions, so nothing can be ranked in it; set "
                    "config.data.val_split and config.data.test_split to splits that have, or build it with captions"
                )
        if blind := [source.ids[number] for number in range(min(8, len(source))) if not source[number].frames]:
            raise ValueError(
                f"{config.data_dir}: training clip {blind[0]} has no pictures, which {method(config)} needs; "
                "sounds alone are for VLSA (configs/vlsa_finetune.py, config.loss.pairs=('text-audio',))"
            )
        stored = tower_cache.open_checked(config, data, params, self.mesh)
        if config.loss.albef[method(config)] not in ("none", "hard") and not data.has_teachers("train"):
            sharding.say("no training clip has teacher vectors: the early-alignment loss is 0 throughout")
        return data.with_stored(stored)

    def evaluator(self, data: Data) -> RetrievalEvaluator:
        return RetrievalEvaluator(self.model, data, self.config, self.mesh)

    def judge(self, results: dict, split: str) -> tuple[float | None, str]:
        return results["t2v"][METRIC], f"text→video {tables.one_line(results['t2v'])}"

    def assess(self, evaluator: RetrievalEvaluator, params: dict, split: str) -> Evaluation:
        return assessment.assess(evaluator, params, split, bank_split(evaluator.data, self.config))

    def compare(
        self, evaluator: RetrievalEvaluator, evaluation: Evaluation, picked: Checkpoint, last: Checkpoint
    ) -> dict[str, dict]:
        same, split = picked.step == last.step, self.config.data.test_split
        of_last = evaluation.results if same else evaluator.run(last.params, split).results
        tests = {"picked on validation": (picked.step, evaluation.results), "last": (last.step, of_last)}
        return {label: {"step": step, "t2v": test["t2v"], "v2t": test["v2t"]} for label, (step, test) in tests.items()}

    def tables(self, results: dict, rows: list[dict]) -> str:
        return tables.whole(results, rows)

    def figures(self, results: dict, rows: list[dict], evaluation: Evaluation, data: Data, folder: str) -> list[str]:
        return plots.write_all(rows, results, evaluation, data, folder)

    def page(self, run: Trained, evaluation: Evaluation, results: dict, rows: list[dict], count: int, told: str) -> str:
        return page.render(run, evaluation, results, rows, count, told)
