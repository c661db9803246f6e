"""VLSA's pre-training on video, words and sound, with the paper's values; demo: on the demo corpus, some minutes.

The shards hold spectrograms: `data_prep.build --spectrogram`.
"""

from ml_collections import ConfigDict

from save_jax.config import apply_vlsa, vlsa_base


def get_config(arg: str = "") -> ConfigDict:
    """`arg`: words of save_jax.config.apply_vlsa, such as demo,seed=1 or smoke."""
    config = vlsa_base("vlsa-pretrain")
    config.name = "vlsa_pretrain"
    config.data_dir = "data/vlsa/shards"
    config.log_every, config.eval_every, config.checkpoint_every = 100, 10_000, 2_000
    return apply_vlsa(config, arg)
