"""``python -m rdh_ext`` and the ``rdh`` command."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
