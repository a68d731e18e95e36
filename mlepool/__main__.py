"""Runs the command line: ``python -m mlepool``."""

from mlepool.cli.main import main

if __name__ == "__main__":
    main()
