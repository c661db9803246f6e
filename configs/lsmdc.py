"""LSMDC, a sentence for each clip of a film, with the values of the papers. `data_prep.build --corpus lsmdc`."""

from ml_collections import ConfigDict

from save_jax.config import apply, base


def get_config(arg: str = "") -> ConfigDict:
    """`arg`: words of save_jax.config.recipe, such as model=avigate,backbone=B/16,seed=1 or smoke."""
    config = base()
    config.name = "lsmdc"
    config.data_dir = "data/lsmdc/shards"
    return apply(config, arg)
