"""MSR-VTT, its own split, tested on all 2,990 × 20 captions as the papers do. `data_prep.build --corpus msrvtt-7k`."""

from ml_collections import ConfigDict

from save_jax.config import apply, base


def get_config(arg: str = "") -> ConfigDict:
    """`arg`: words of save_jax.config.recipe, such as model=avigate,backbone=B/16,seed=1 or smoke."""
    config = base()
    config.name = "msrvtt7k"
    config.data_dir = "data/msrvtt-7k/shards"
    return apply(config, arg)
