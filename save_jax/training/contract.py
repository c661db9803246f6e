"""What the loop knows of a method. The room `methods` implements it; the loop imports no method, it is given one."""

from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import optax

from save_jax.data.pipeline import Data
from save_jax.evaluation.contract import Evaluation, Evaluator, Trained
from save_jax.training.objectives import Objective


class Checkpoint(NamedTuple):
    """Parameters and the step that they are from."""

    step: int
    params: dict


class Method(Protocol):
    """A model, its objective, its evaluation, and what is reported of it."""

    model: nn.Module  # with `example` and `complete`, see state.create
    objective: Objective

    def optimizer(self, total_steps: int) -> optax.GradientTransformation:
        """Over the flat dictionary of trained parameters."""
        ...

    def prepare(self, data: Data, params: dict) -> Data:
        """The data to train on, with stored outputs of towers where the config asks for them.

        Raises ValueError for data that this method cannot train on.
        """
        ...

    def evaluator(self, data: Data) -> Evaluator:
        """Evaluates the splits of `data`."""
        ...

    def judge(self, results: dict, split: str) -> tuple[float | None, str]:
        """(the number that picks a checkpoint, a line to print) of a validation's results.

        None instead of the number: the last checkpoint is picked.
        """
        ...

    def assess(self, evaluator: Evaluator, params: dict, split: str) -> Evaluation:
        """The final evaluation: headline numbers, checks of their validity, and where they come from."""
        ...

    def compare(self, evaluator: Any, evaluation: Evaluation, picked: Checkpoint, last: Checkpoint) -> dict[str, dict]:
        """The same test of other checkpoints, {label: {"step", …}}; the first is of `picked`."""
        ...

    def tables(self, results: dict, rows: list[dict]) -> str:
        """Results as text. `rows`: of metrics.jsonl."""
        ...

    def figures(self, results: dict, rows: list[dict], evaluation: Evaluation, data: Data, folder: str) -> list[str]:
        """Writes figures into a folder and returns their paths."""
        ...

    def page(self, run: Trained, evaluation: Evaluation, results: dict, rows: list[dict], count: int, told: str) -> str:
        """The HTML page of a run. `results`: as results.json; `count`: queries to show; `told`: see `page.render`."""
        ...
