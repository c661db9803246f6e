"""`python -m data_prep.verify`: see `data_prep.commands.verify`."""

import sys

from data_prep.commands.verify import main

if __name__ == "__main__":
    sys.exit(main())
