"""`python -m save_jax.parity`."""

import sys

from save_jax.parity.command import main

sys.exit(main())
