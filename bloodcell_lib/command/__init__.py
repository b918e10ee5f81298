"""The command `bloodcell`. It imports the library, never the reverse."""
