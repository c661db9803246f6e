"""`python -m save_jax.sweep`."""

from absl import app, flags

from save_jax.sweep import command
from save_jax.training.flags import parse_flags

flags.adopt_module_key_flags(command)  # --help shows them
app.run(command.main, flags_parser=parse_flags)
