"""`python -m save_jax.convert`: see save_jax.weights.command."""

import sys

from save_jax.weights.command import main

if __name__ == "__main__":
    sys.exit(main())
