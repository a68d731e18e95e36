"""The built-in commands, a module per subject."""

from mlepool.worker.commands import host, jobs, shell
from mlepool.worker.registry import Function, find_commands

__all__ = ["builtin_commands"]


def builtin_commands() -> dict[str, Function]:
    """Give every built-in command by its name."""
    return {**find_commands(shell), **find_commands(jobs), **find_commands(host)}
