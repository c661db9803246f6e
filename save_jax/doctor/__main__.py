"""`python -m save_jax.doctor`."""

import os
import sys

from save_jax.doctor.command import main
from save_jax.doctor.line import are_waiting

code = main()
if are_waiting():  # an orderly exit would wait with it
    sys.stdout.flush()
    os._exit(code)
sys.exit(code)
