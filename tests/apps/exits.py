"""A module that leaves at import, as a script without its `if __name__` does."""

import sys

sys.exit(3)
