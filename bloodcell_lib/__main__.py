"""`python -m bloodcell_lib` is the command `bloodcell`."""

import sys

from bloodcell_lib.command.cli import main

sys.exit(main())
