"""`python -m save_jax.search`."""

import os
import sys

from save_jax.search import command

status = command.main()
if status == 130:  # Ctrl-C: what is whole is committed, and threads that still decode would end the process by force
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
sys.exit(status)
