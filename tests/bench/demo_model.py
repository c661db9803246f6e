"""Makes the small model in the package, `save_jax/search/demo_model`, of a finished run.

    python tests/bench/transcripts.py --demo data/demo --work FOLDER --variants spoken --seeds 0
    python tests/bench/demo_model.py FOLDER/runs/spoken-seed0

SAVE of the demo's config on the demo corpus, with what was spoken as transcripts, since its videos come with right
subtitles. Weights are kept in float16, beside the captions that the cut-off is found with.
"""

import argparse
import dataclasses
import os
import shutil

import jax
import numpy as np

from save_jax.inference.card_command import about_folder
from save_jax.search import demo
from save_jax.search.models import sentences_of
from save_jax.weights import loading
from save_jax.weights.checkpoint import FOLDER, Checkpoints


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run")
    args = parser.parse_args()
    to, about, checkpoints = (
        demo.model_folder(),
        about_folder(args.run, licence="apache-2.0"),
        Checkpoints(args.run, read_only=True),
    )
    assert about is not None
    step = checkpoints.whole()
    checkpoints.close()
    params = loading.read_params(os.path.join(args.run, FOLDER, str(step), "params"))
    half = jax.tree.map(lambda x: np.asarray(x).astype(np.float16), params)
    shutil.rmtree(to, ignore_errors=True)
    os.makedirs(to)
    loading.save_file(to, half)
    source = "SAVE of configs/demo.py, seed 0, on save_jax's demo corpus (made-up videos), with what was spoken"
    about = dataclasses.replace(about, source=source)
    about.write(jax.tree.map(lambda x: x.astype(np.float32), half), to)
    with open(os.path.join(to, "sentences.txt"), "w", encoding="utf-8") as file:
        file.write("\n".join(sentences_of(args.run)) + "\n")


if __name__ == "__main__":
    main()
