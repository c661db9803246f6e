"""`python -m data_prep.inspect`: see `data_prep.commands.inspect`."""

import sys

from data_prep.commands.inspect import main

if __name__ == "__main__":
    sys.exit(main())
