"""`python -m save_jax.sweep_vlsa`: see save_jax.sweep.vlsa."""

from absl import app, flags

from save_jax.sweep import vlsa
from save_jax.training.flags import parse_flags

if __name__ == "__main__":
    flags.adopt_module_key_flags(vlsa)  # --help shows them
    app.run(vlsa.main, flags_parser=parse_flags)
