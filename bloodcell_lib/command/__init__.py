"""Commands: what the command line does with the library. Nothing in the library imports it."""
