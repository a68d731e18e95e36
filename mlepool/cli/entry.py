"""Where the ``mlepool`` command begins: completion needs not what the others load."""

from __future__ import annotations

import gc
import importlib
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line, or answer a shell that asks for completions."""
    is_asked = sys.argv[1:2] == ["__complete"]
    # What is loaded now stays: to look for cycles in it, again and again, takes a tenth
    # of the time. The subcommand turns it on again, for what comes then.
    gc.disable()
    module = "mlepool.cli.completing" if is_asked else "mlepool.cli.main"
    importlib.import_module(module).main()
