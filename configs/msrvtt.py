"""MSR-VTT, 9k training split, tested on 1k-A, with the values of the SAVE paper (ViT-B/32, AST-base)."""

from ml_collections import ConfigDict

from save_jax.config import base, smoke


def get_config(arg: str = "") -> ConfigDict:
    """`arg`: "smoke" for a tiny run on the same kind of shards, else empty."""
    config = base()
    config.name = "msrvtt"
    config.data_dir = "data/msrvtt/shards"
    # batch 128, 5 epochs, 12 frames, 32 words, δ 0.1 and all rates are the base config's: it is this experiment.
    if arg not in ("", "smoke"):
        raise ValueError(f"configs/msrvtt.py:{arg} is unknown; use configs/msrvtt.py or configs/msrvtt.py:smoke")
    return smoke(config) if arg == "smoke" else config
