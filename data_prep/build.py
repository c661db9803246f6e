"""`python -m data_prep.build`: see `data_prep.commands.build`."""

import sys

from data_prep.commands.build import main

if __name__ == "__main__":
    sys.exit(main())
