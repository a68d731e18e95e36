"""What the worker calls itself, and what it tells of itself: set by clients."""

from __future__ import annotations

from typing import Any

from mlepool.worker.registry import Context, command

__all__ = ["set_labels", "set_name", "set_state"]


@command(role="admin")
def set_name(ctx: Context, name: str | None = None) -> str:
    """Rename the worker; it keeps the name when it is started again.

    Args:
        name: None for the name that its configuration says.

    Returns:
        Its name now.

    Raises:
        ValueError: If it can't be a name.
    """
    ctx.live.set_name(name)
    return ctx.live.config.name


@command(role="admin")
def set_labels(ctx: Context, labels: dict[str, str | None]) -> dict[str, str]:
    """Set labels of the worker, beside those that it has; it keeps them.

    Args:
        labels: None for a label takes back what was set here: what the worker's
            configuration says of it counts again.

    Returns:
        All labels now.

    Raises:
        ValueError: If one looks like a secret or has no proper name, or all are more
            than 64 KiB.
    """
    ctx.live.set_labels(labels)
    return ctx.live.config.labels


@command(role="admin")
def set_state(ctx: Context, values: dict[str, Any]) -> dict[str, Any]:
    """Set properties of the worker's state, beside those that it has; it keeps them.

    Args:
        values: None for a property takes back what was set here: what the worker's
            configuration says of it counts again.

    Returns:
        All such properties now.

    Raises:
        ValueError: If one looks like a secret, or has a name of the worker's own
            properties or no proper one, or all are more than 64 KiB.
    """
    ctx.live.set_properties(values)
    return ctx.live.config.extra
