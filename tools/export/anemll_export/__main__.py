"""Entry point of `python -m anemll_export`."""

import sys

from anemll_export.cli import main

sys.exit(main())
