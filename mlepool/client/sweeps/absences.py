"""Hosts that are away, and the time after which each of them loses its runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from mlepool.client.sweeps.member import Member

__all__ = ["Absences"]


class Absences:
    """Which hosts are away, and how much longer they may be.

    Args:
        limit: How long, in seconds; None for any time.
        give_up: Called with a host that is away for longer, and the limit.
    """

    def __init__(
        self, limit: float | None, give_up: Callable[[Member, float], None]
    ) -> None:
        self._limit = limit
        self._give_up = give_up
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def watch(self, member: Member) -> None:
        """Begin or end a host's time: it stands otherwise now."""
        timer = self._timers.pop(member.name, None)
        if timer is not None:
            timer.cancel()
        limit, since = self._limit, member.away_since
        if limit is not None and since is not None and member.held:
            left = max(0.0, since + limit - time.monotonic())
            loop = asyncio.get_running_loop()
            due = self._due
            self._timers[member.name] = loop.call_later(left, due, member, limit)

    def close(self) -> None:
        """Wait for nobody any more."""
        for timer in self._timers.values():
            timer.cancel()

    def _due(self, member: Member, limit: float) -> None:
        if member.away_since is not None:  # else it is just coming back
            self._give_up(member, limit)
