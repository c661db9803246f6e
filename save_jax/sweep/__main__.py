"""`python -m save_jax.sweep`."""

from absl import app, flags

from save_jax.sweep import grids
from save_jax.training.flags import parse_flags

flags.adopt_module_key_flags(grids)  # --help shows them
app.run(grids.main, flags_parser=parse_flags)
