"""What the training loop knows of a method: a model, what it optimises, how it is validated, what is left in the end.

`make(config, data, mesh)` gives the task of a config; `train.py` and `main.py` ask it and nothing else.
"""

import os
from typing import Protocol

import flax.linen as nn
import jax
import numpy as np
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from save_jax import audit, cache, config_vlsa, metrics, optim, protocols, report, vlsa_plots, writers
from save_jax.assess import assess
from save_jax.checkpoint import METRIC
from save_jax.config import method, model_sizes
from save_jax.data.pipeline import Data
from save_jax.evaluate import Evaluator
from save_jax.models.retrieval import Retrieval
from save_jax.step import Objective, RetrievalObjective
from save_jax.vlsa_evaluate import VlsaEvaluator, cosines
from save_jax.vlsa_objectives import Finetuning, Pretraining

Checkpoint = tuple[int, dict]  # step, parameters


class Task(Protocol):
    """The small interface of a method."""

    model: nn.Module  # with `example` and `complete`, see state.create
    objective: Objective

    def optimizer(self, total_steps: int) -> optax.GradientTransformation:
        """Over the flat dictionary of trained parameters."""

    def begin(self, params: dict) -> None:
        """Before the first step: checks that need parameters. Raises ValueError for what cannot work."""

    def validate(self, params: dict, split: str) -> tuple[dict, float | None, str]:
        """(results for metrics.jsonl, the number that picks a checkpoint, a line to print).

        None instead of the number: the last checkpoint is the one.
        """

    def finish(self, workdir: str, name: str, picked: Checkpoint, last: Checkpoint, params_sha256: str) -> dict:
        """The final evaluation of a run, or that of --mode=eval: returns results, written under `name`."""


class RetrievalTask:
    """SAVE, AVIGATE and vision only."""

    def __init__(self, config: ConfigDict, data: Data, mesh: Mesh):
        self.config, self.data, self.mesh = config, data, mesh
        self.model = Retrieval(model_sizes(config))
        self.objective = RetrievalObjective(self.model, config)
        self.evaluator = Evaluator(self.model, data, config, mesh)

    def optimizer(self, total_steps: int) -> optax.GradientTransformation:
        return optim.make_optimizer(self.config.optim, total_steps)

    def begin(self, params: dict) -> None:
        """Opens stored towers. Refuses corpora of sounds, whose first clips tell."""
        source = self.data.sources["train"]
        if blind := [source.ids[number] for number in range(min(8, len(source))) if not source[number].frames]:
            raise ValueError(
                f"{self.config.data_dir}: training clip {blind[0]} has no pictures, which {method(self.config)} needs; "
                "sounds alone are for VLSA (configs/vlsa_finetune.py, config.loss.pairs=('text-audio',))"
            )
        self.data.features = cache.open_checked(self.config, self.data, params, self.mesh)
        if self.config.loss.albef[method(self.config)] not in ("none", "hard") and not self.data.has_teachers("train"):
            writers.say("no training clip has teacher vectors: the early-alignment loss is 0 throughout")

    def validate(self, params: dict, split: str) -> tuple[dict, float | None, str]:
        results = self.evaluator.run(params, split).results
        return results, results["t2v"][METRIC], f"text→video {report.one_line(results['t2v'])}"

    def finish(self, workdir: str, name: str, picked: Checkpoint, last: Checkpoint, params_sha256: str) -> dict:
        """Results and figures, as `report` says."""
        config, data, split = self.config, self.data, self.config.data.test_split
        val_split = config.data.val_split
        bank_split = val_split if val_split in data.sources and val_split != split else None
        evaluation = assess(self.evaluator, picked[1], split, bank_split=bank_split)
        same = picked[0] == last[0]
        of_last = evaluation.results if same else self.evaluator.run(last[1], split).results
        compared = report.compare_checkpoints(
            (picked[0], evaluation.results), (last[0], of_last), workdir, config, own=name == report.RESULTS
        )
        results = report.results(config, evaluation, data=data, checkpoints=compared, params_sha256=params_sha256)
        if jax.process_index() == 0:
            report.write(results, evaluation, data, workdir, name)
        return results


class VlsaTask:
    """Pre-training and fine-tuning of VLSA."""

    def __init__(self, config: ConfigDict, data: Data, mesh: Mesh):
        self.config, self.data, self.mesh = config, data, mesh
        self.pretrains = config.task == "vlsa-pretrain"
        self.model = config_vlsa.make_model(config)
        self.objective = (Pretraining if self.pretrains else Finetuning)(self.model, config)
        self.evaluator = VlsaEvaluator(self.model, data, config, mesh)

    def optimizer(self, total_steps: int) -> optax.GradientTransformation:
        return optim.adamw(self.config.optim, total_steps)

    def begin(self, params: dict) -> None:
        """Fine-tuning needs captions everywhere, and in validation something to pick by."""
        if self.pretrains:
            return
        for split in (self.config.data.val_split, self.config.data.test_split):
            if not self.evaluator.notes(split).captions:
                raise ValueError(f"split {split!r} of {self.config.data_dir} has no captions, so nothing can be ranked")
        train, val = (self._holds(split) for split in ("train", self.config.data.val_split))
        pairs, pick = self.config.loss.pairs, self.config.evaluation.pick
        if not any(set(pair.split("-")) <= train for pair in pairs):
            raise ValueError(
                f"config.loss.pairs={tuple(pairs)}: the training split of {self.config.data_dir} holds "
                f"{', '.join(sorted(train))} alone; set config.loss.pairs to two of them, such as text-audio"
            )
        if not set(config_vlsa.NAMES[pick].split(" → ")) <= val:
            raise ValueError(
                f"config.evaluation.pick={pick}: split {self.config.data.val_split!r} holds {', '.join(sorted(val))} "
                "alone; set config.evaluation.pick to a direction between two of them, such as t2a"
            )

    def _holds(self, split: str) -> set[str]:
        """Which modalities a sample of a split's clips has, captions being its text."""
        source, found = self.data.sources[split], {"text"}
        for number in np.unique(np.linspace(0, len(source) - 1, 256).astype(int)):
            clip = source[number]
            found |= {"video"} if clip.frames else set()
            found |= {"audio"} if clip.spectrogram is not None else set()
            if len(found) == len(config_vlsa.MODALITIES):
                break
        return found

    def validate(self, params: dict, split: str) -> tuple[dict, float | None, str]:
        """Retrieval; in pre-training, which captions have no part in, nothing is picked by it."""
        results = self.evaluator.run(params, split).results
        pick = self.config.evaluation.pick
        if self.pretrains:
            shown = pick if pick in results else next((d for d in config_vlsa.DIRECTIONS if d in results), None)
            return results, None, f"{shown} {report.one_line(results[shown])}" if shown else "has nothing to rank"
        if pick not in results:
            raise ValueError(
                f"config.evaluation.pick={pick}: split {split} has nothing to rank in that direction, only "
                f"{', '.join(name for name in config_vlsa.DIRECTIONS if name in results)}"
            )
        return results, results[pick][METRIC], f"{pick} {report.one_line(results[pick])}"

    def finish(self, workdir: str, name: str, picked: Checkpoint, last: Checkpoint, params_sha256: str) -> dict:
        """Results and figures.

        test: what `VlsaEvaluator.run` gives, protocol, audit, intervals of t2v and t2a; after pre-training also
        "masked", the errors on hidden tokens beside those of the mean predictor.
        """
        config, data, split = self.config, self.data, self.config.data.test_split
        evaluation = self.evaluator.run(picked[1], split)
        test, notes = evaluation.results, evaluation.notes
        failed = list(notes.gallery["failed"])
        test["protocol"] = protocols.describe(data.manifest["corpus"], split, notes.ids, notes.owners, failed)
        test["audit"] = audit.audit(self.evaluator, picked[1], split)
        test["intervals"] = {
            f"t2{name[0]}": metrics.intervals(metrics.ranks(cosines(evaluation.texts, x), notes.owners), notes.owners)
            for name, x in evaluation.clips.items()
            if f"t2{name[0]}" in test
        }
        if self.pretrains:
            # --mode=eval opens no more than it ranks.
            train = data if "train" in data.sources else Data(config, ("train",))
            test["masked"] = self.evaluator.masked_errors(picked[1], split, train)
        results = {
            "test": test,
            "split": split,
            "picked_step": picked[0],
            "checkpoints": {"evaluated": {"step": picked[0]}, "last": {"step": last[0]}},
            "params_sha256": params_sha256,
            "config": config.to_dict(),
            "versions": writers.versions(),
            "data": {name: data.manifest[name] for name in ("corpus", "settings", "shards")},
        }
        shown = self.evaluator.examples(picked[1], split) if self.pretrains else None
        if jax.process_index() == 0:
            writers.write_json(os.path.join(workdir, name), results)
            rows = [(config_vlsa.NAMES[d], test[d]) for d in config_vlsa.DIRECTIONS if d in test]
            for group, directions in test["groups"].items():
                rows += [(f"{config_vlsa.NAMES[d]}, {group}", found) for d, found in directions.items()]
            table = report.rows_as_text(rows) if rows else "nothing to rank"
            writers.say(f"\n{split}, checkpoint of step {picked[0]}\n{table}")
            if self.pretrains:
                writers.say(f"\nguesses of what was hidden\n{masked_table(test['masked'])}")
            history = writers.read_rows(os.path.join(workdir, "metrics.jsonl"))
            folder = report.folder_of(name, workdir)
            figures = vlsa_plots.write_all(history, results, evaluation, data, shown, folder)
            writers.say(f"\n{os.path.join(workdir, name)} and {len(figures)} figures in {folder}")
        return results


def masked_table(masked: dict) -> str:
    """Errors of masked modelling beside those of the mean predictor, as text."""
    lines = [f"{'':8}{'model':>9}{'mean predictor':>17}  hidden tokens"]
    units = {"video": "squared error", "text": "nats a word", "audio": "squared error"}
    for name in (name for name in config_vlsa.MODALITIES if name in masked):
        row = masked[name]
        lines.append(f"{name:8}{row['model']:9.3f}{row['mean predictor']:17.3f}  {row['hidden']}  ({units[name]})")
    return "\n".join(lines)


TASKS = {"retrieval": RetrievalTask, "vlsa-pretrain": VlsaTask, "vlsa-finetune": VlsaTask}


def make(config: ConfigDict, data: Data, mesh: Mesh) -> Task:
    """The task of a resolved config."""
    return TASKS[config.task](config, data, mesh)
