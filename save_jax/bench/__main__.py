"""`python -m save_jax.bench`."""

import sys

from save_jax.bench.command import main

sys.exit(main())
