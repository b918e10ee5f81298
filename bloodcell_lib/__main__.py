"""`python -m bloodcell_lib` is the command `bloodcell`."""

from bloodcell_lib.command.cli import script

script()
