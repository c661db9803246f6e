"""`python -m save_jax.report`."""

import sys

from save_jax.inference.run_page import main

sys.exit(main())
