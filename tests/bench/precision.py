"""How much bfloat16 computation changes a trained model: loss of eight training batches, and the test split's ranks.

    python tests/bench/precision.py --config configs/demo.py --workdir runs/demo

Parameters, norms, softmax, score and loss stay float32 in both.
"""

import jax
import numpy as np
from absl import app

from save_jax import cli, sharding
from save_jax.config import model_sizes, resolve
from save_jax.data import pipeline
from save_jax.evaluation.retrieval import RetrievalEvaluator
from save_jax.models.retrieval import Retrieval
from save_jax.report import tables
from save_jax.training import objectives, state, step
from save_jax.weights import loading

BATCHES = 8


def main(argv: list[str]) -> None:
    """The command line."""
    del argv
    cli.set_up_process()
    losses = {}
    for dtype in ("float32", "bfloat16"):
        config = cli.CONFIG.value.copy_and_resolve_references()
        config.model.dtype = dtype
        config = resolve(config)
        mesh = sharding.make_mesh()
        data = pipeline.Data(config, ("train", config.data.test_split))
        model = Retrieval(model_sizes(config))
        like = jax.jit(
            lambda model=model, config=config: state.init_params(model, config, jax.random.key(0)),
            out_shardings=sharding.replicated(mesh),
        )()
        params = loading.load_params(cli.WORKDIR.value, like)
        loss = jax.jit(
            lambda p, b, model=model, config=config: step.loss_of_batch(
                objectives.RetrievalObjective(model, config), p, b
            )[0]
        )
        batches = pipeline.train_iterator(data, config)
        losses[dtype] = []
        for _ in range(BATCHES):
            batch = next(batches)
            batch.pop("clip")
            losses[dtype].append(float(loss(params, batch)))
        batches.close()
        results = RetrievalEvaluator(model, data, config, mesh).run(params, config.data.test_split).results
        for direction in ("t2v", "v2t"):
            print(f"{dtype:9} {direction}  {tables.one_line(results[direction])}")
        print(f"{dtype:9} mean loss of {BATCHES} training batches {np.mean(losses[dtype]):.6f}")
    ratio = np.array(losses["bfloat16"]) / np.array(losses["float32"]) - 1
    print(f"loss of bfloat16 against float32: mean {ratio.mean():+.3%}, largest of a batch {np.abs(ratio).max():.3%}")


if __name__ == "__main__":
    app.run(main, flags_parser=cli.parse_flags)
