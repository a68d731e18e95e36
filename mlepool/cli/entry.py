"""Where the ``mlepool`` command begins: completion needs not what the others load."""

from __future__ import annotations

import gc
import importlib
import signal
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line, or answer a shell that asks for completions."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Nothing has begun while it loads: Ctrl-C ends it without a traceback.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    is_asked = sys.argv[1:2] == ["__complete"]
    # What is loaded now stays: to look for cycles in it, again and again, takes a tenth
    # of the time. The subcommand turns it on again, for what comes then.
    gc.disable()
    module = "mlepool.cli.completing" if is_asked else "mlepool.cli.main"
    importlib.import_module(module).main()
