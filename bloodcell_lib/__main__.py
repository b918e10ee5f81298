"""`python -m bloodcell_lib` is the command `bloodcell`."""

import sys

from bloodcell_lib.cli import main

sys.exit(main())
