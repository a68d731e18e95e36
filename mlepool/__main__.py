"""Runs the command line: ``python -m mlepool``."""

from mlepool.cli.entry import main

if __name__ == "__main__":
    main()
