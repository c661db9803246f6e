"""VLSA's fine-tuning for text–video retrieval on MSR-VTT, with the paper's values; demo: on the demo corpus.

It starts from a run of pre-training: --config.init_from=WORKDIR. The shards hold spectrograms: `data_prep.build
--spectrogram`.
"""

from ml_collections import ConfigDict

from save_jax.config import apply_vlsa, vlsa_base


def get_config(arg: str = "") -> ConfigDict:
    """`arg`: words of save_jax.config.apply_vlsa, such as demo,seed=1 or smoke."""
    config = vlsa_base("vlsa-finetune")
    config.name = "vlsa_finetune"
    config.data_dir = "data/msrvtt-9k/shards"
    return apply_vlsa(config, arg)
