"""MSR-VTT, 9k training split, tested on 1k-A, with the values of the papers. `data_prep.build --corpus msrvtt-9k`.

The published models are trained on all 9,000 videos; here those that validate are held out of them.
"""

from ml_collections import ConfigDict

from save_jax.config import apply, base


def get_config(arg: str = "") -> ConfigDict:
    """`arg`: words of save_jax.config.recipe, such as model=avigate,backbone=B/16,seed=1 or smoke."""
    config = base()
    config.name = "msrvtt"
    config.data_dir = "data/msrvtt-9k/shards"
    # Batch 128, 5 epochs, 12 frames, 32 words, δ 0.1 and all rates are the base config's: it is this experiment.
    return apply(config, arg)
