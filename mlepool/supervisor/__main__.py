"""Runs a supervisor: ``python -m mlepool.supervisor STATE_DIR``."""

import sys

from mlepool.supervisor.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
