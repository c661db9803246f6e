"""`python -m data_prep.parity`: see `data_prep.commands.parity`."""

import sys

from data_prep.commands.parity import main

if __name__ == "__main__":
    sys.exit(main())
