"""What a pool keeps for the calls of its groups."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from mlepool.client.connection import AsyncConnection
from mlepool.client.groups.listener import AsyncGroupListener
from mlepool.client.groups.orders import Order
from mlepool.client.groups.run import GroupRun, RunOptions, Slot

__all__ = ["MAX_DIALS", "Ward"]

MAX_DIALS = 100  # connections opened at once: more only wait for each other


class Ward:
    """Begins calls on many hosts, and ends with the pool what has not begun.

    Attributes:
        gate: Lets through so many who connect at once.
    """

    def __init__(self) -> None:
        self.gate = asyncio.Semaphore(MAX_DIALS)
        self._runs: set[GroupRun] = set()

    def begin(
        self,
        connections: Iterable[AsyncConnection],
        order: Order,
        options: RunOptions,
    ) -> AsyncGroupListener:
        """Begin a call."""
        run = GroupRun(connections, order, options, watcher=self, left_out={})
        self._runs.add(run)
        run.start()
        return AsyncGroupListener(run)

    def ended(self, run: GroupRun, slot: Slot) -> None:
        """Note that an attempt has ended."""

    def over(self, run: GroupRun) -> None:
        """Note that a call is over."""
        self._runs.discard(run)

    def close(self) -> None:
        """Begin nothing more: the pool is closed. Twice is fine."""
        for run in tuple(self._runs):
            run.abandon("the pool was closed")
