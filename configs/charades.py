"""Charades, a script for each half-minute video, with the values of the papers. `data_prep.build --corpus charades`.

It has no validation split: one training video in sixteen is held out for it.
"""

from ml_collections import ConfigDict

from save_jax.config import apply, base


def get_config(arg: str = "") -> ConfigDict:
    """`arg`: words of save_jax.config.recipe, such as model=avigate,backbone=B/16,seed=1 or smoke."""
    config = base()
    config.name = "charades"
    config.data_dir = "data/charades/shards"
    # Videos and scripts are longer than elsewhere, and batches smaller for it.
    config.data.max_frames = 32
    config.data.max_words = 64
    config.batch_size = 64
    return apply(config, arg)
