"""IPython as the prompt; loaded where it is installed."""

from __future__ import annotations

from typing import Any

__all__ = ["start"]


def start(names: dict[str, Any], banner: str) -> None:
    """Run IPython until it is left.

    Args:
        names: What is known at its prompt.
        banner: What it says first.
    """
    import IPython
    from traitlets.config import Config

    config = Config()
    config.TerminalInteractiveShell.banner1 = f"{banner}\n"
    config.TerminalInteractiveShell.confirm_exit = False
    config.InteractiveShellApp.extensions = ["mlepool"]
    IPython.start_ipython(argv=[], user_ns=names, config=config)
