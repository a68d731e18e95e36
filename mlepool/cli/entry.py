"""Where the ``mlepool`` command begins: completion needs not what the others load."""

from __future__ import annotations

import importlib
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line, or answer a shell that asks for completions."""
    is_asked = sys.argv[1:2] == ["__complete"]
    module = "mlepool.cli.completing" if is_asked else "mlepool.cli.main"
    importlib.import_module(module).main()
