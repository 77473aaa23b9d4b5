"""`python -m sciml` is the command line."""

import sys

from sciml.cli import main

if __name__ == "__main__":
    sys.exit(main())
