"""Experiments as data: one `get_config(arg)` per file; save_jax.config.recipe knows the words that `arg` may hold.

`--config configs/vatex.py:model=avigate,seed=1` chooses method and seed; `:smoke` makes any of them run in a minute on
a CPU. They compute in float32; `--config.model.dtype=bfloat16` is for devices that are faster in it.
"""
