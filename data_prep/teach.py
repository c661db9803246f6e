"""`python -m data_prep.teach`: see `data_prep.commands.teach`."""

import sys

from data_prep.commands.teach import main

if __name__ == "__main__":
    sys.exit(main())
