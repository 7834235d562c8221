"""`python -m engine` is the same as `tidewell`."""

from engine.cli import main

main(prog_name="tidewell")
