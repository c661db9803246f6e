"""Experiments as data: one `get_config(arg)` per file. `:smoke` makes any of them run in a minute on a CPU."""
