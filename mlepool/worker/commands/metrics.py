"""What clients call for ``metrics()`` and ``on("metrics", ...)``; nobody else does."""

from __future__ import annotations

from mlepool.wire.telemetry import Sample
from mlepool.worker.registry import Context, command

__all__ = ["metrics", "metrics_follow"]


@command(role="view", repeatable=True)
async def metrics(ctx: Context) -> Sample:
    """Give the newest measurements; what is older than its interval is taken now."""
    return await ctx.telemetry.newest()


@command(role="view", repeatable=True)
def metrics_follow(ctx: Context, follower: str, after: int, *, collects: bool) -> bool:
    """Send samples over this link from now on; called again, it acknowledges some.

    Args:
        follower: The client's name for itself, the same over all its links.
        after: The greatest id that it has; 0 for none.
        collects: True if it wants what is kept, too.

    Returns:
        True if it gets what is kept: False if another client does.
    """
    return ctx.follow_metrics(follower, after, collects=collects)
