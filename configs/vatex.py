"""VATEX, 1,500 test videos of ten captions each, with the values of the papers. `data_prep.build --corpus vatex`."""

from ml_collections import ConfigDict

from save_jax.config import apply, base


def get_config(arg: str = "") -> ConfigDict:
    """`arg`: words of save_jax.config.recipe, such as model=avigate,backbone=B/16,seed=1 or smoke."""
    config = base()
    config.name = "vatex"
    config.data_dir = "data/vatex/shards"
    config.loss.delta = 0.05  # of the papers, for VATEX alone
    return apply(config, arg)
