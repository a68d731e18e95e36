"""The built-in commands, a module per subject."""

from mlepool.worker.commands import (
    changes,
    contents,
    files,
    host,
    jobs,
    metrics,
    shell,
    state,
    telemetry,
    trees,
)
from mlepool.worker.registry import Function, find_commands

__all__ = ["builtin_commands"]


def builtin_commands() -> dict[str, Function]:
    """Give every built-in command by its name; what only clients call begins with _."""
    hidden = {
        f"_{name}": one
        for module in (trees, metrics)
        for name, one in find_commands(module).items()
    }
    modules = (shell, jobs, files, contents, changes, host, state, telemetry)
    open_ones = (find_commands(one) for one in modules)
    return {name: one for some in (*open_ones, hidden) for name, one in some.items()}
