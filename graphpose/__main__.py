"""``python -m graphpose``: the same as the ``graphpose`` command."""

import sys

from graphpose.cli import main

if __name__ == "__main__":
    sys.exit(main())
