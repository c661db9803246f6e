"""How much bfloat16 computation changes a trained model: loss of eight training batches, and the test split's ranks.

    python tests/bench/precision.py runs/demo

Parameters, norms, softmax, score and loss stay float32 in both.
"""

import argparse

import jax
import numpy as np

from save_jax import sharding
from save_jax.data import pipeline
from save_jax.inference import runs
from save_jax.methods.run import make_method
from save_jax.report import tables
from save_jax.training import step

BATCHES = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("workdir", help="folder of a run of SAVE, AVIGATE or vision")
    parser.add_argument("--data-dir", help="folder of its shards, if they moved")
    args = parser.parse_args()
    mesh, losses = sharding.make_mesh(), {}
    for dtype in ("float32", "bfloat16"):
        config = runs.open_config(args.workdir, args.data_dir, None, mesh).copy_and_resolve_references().unlock()
        config.model.dtype = dtype
        method, test = make_method(config, mesh), config.data.test_split
        data = pipeline.Data(config, ("train", test))
        _, params = runs.restore(method.model, config, args.workdir, mesh)
        loss = jax.jit(lambda params, batch, method=method: step.loss_of_batch(method.objective, params, batch)[0])
        batches, losses[dtype] = pipeline.train_iterator(data, config), []
        for _ in range(BATCHES):
            batch = next(batches)
            batch.pop("clip")
            losses[dtype].append(float(loss(params, batch)))
        batches.close()
        results = method.evaluator(data).run(params, test).results
        for direction in ("t2v", "v2t"):
            print(f"{dtype:9} {direction}  {tables.one_line(results[direction])}")
        print(f"{dtype:9} mean loss of {BATCHES} training batches {np.mean(losses[dtype]):.6f}", flush=True)
    ratio = np.array(losses["bfloat16"]) / np.array(losses["float32"]) - 1
    print(f"loss of bfloat16 against float32: mean {ratio.mean():+.3%}, largest of a batch {np.abs(ratio).max():.3%}")


if __name__ == "__main__":
    main()
