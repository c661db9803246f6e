"""`python -m save_jax.search`."""

import sys

from save_jax.search import command

sys.exit(command.main())
