"""`python -m data_prep.transcribe`: see `data_prep.commands.transcribe`."""

import sys

from data_prep.commands.transcribe import main

if __name__ == "__main__":
    sys.exit(main())
