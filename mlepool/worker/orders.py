"""Stops and input that the supervisor was asked for, until it has answered."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

from mlepool.errors import WorkerError
from mlepool.supervisor.messages import Fed, Feed, Stop, Stopped
from mlepool.wire.values import StopReport

__all__ = ["Orders"]


class Orders:
    """Who waits for which answer.

    An answer names the job and not the order: it is for all who stop a job, and for who
    feeds it, as far as it says.
    """

    def __init__(self) -> None:
        self._stops: dict[str, list[tuple[Stop, asyncio.Future[StopReport]]]]
        self._stops = defaultdict(list)
        self._feeds: dict[str, list[tuple[Feed, asyncio.Future[Fed]]]]
        self._feeds = defaultdict(list)

    def add_stop(self, order: Stop) -> asyncio.Future[StopReport]:
        """Note a stop; what is given is done with its report."""
        future: asyncio.Future[StopReport] = asyncio.get_running_loop().create_future()
        self._stops[order.id].append((order, future))
        return future

    def add_feed(self, order: Feed) -> asyncio.Future[Fed]:
        """Note input; what is given is done when the process has taken it all."""
        future: asyncio.Future[Fed] = asyncio.get_running_loop().create_future()
        self._feeds[order.id].append((order, future))
        return future

    def unanswered(self) -> list[Stop | Feed]:
        """Give what a new supervisor is to be asked: a stop of each job is enough."""
        stops = {
            order.id: order
            for pairs in self._stops.values()
            for order, future in pairs
            if not future.done()
        }
        feeds = [
            order
            for pairs in self._feeds.values()
            for order, future in pairs
            if not future.done()
        ]
        return [*stops.values(), *feeds]

    def stopped(self, stopped: Stopped) -> None:
        """Take a report."""
        for _, future in self._stops.pop(stopped.id, ()):
            if not future.done():
                future.set_result(stopped.report)

    def fed(self, fed: Fed) -> None:
        """Settle those whose input is taken; the others wait for the next answer."""
        is_final = fed.closed or bool(fed.problem)
        left = []
        for order, future in self._feeds.pop(fed.id, ()):
            if not is_final and fed.offset < order.offset + len(order.data):
                left.append((order, future))
            elif not future.done():
                future.set_result(fed)
        if left:
            self._feeds[fed.id] = left

    def fail(self, cause: str) -> None:
        """Tell all who wait that there will be no answer."""
        waiting: list[asyncio.Future[Any]] = []
        for stops in self._stops.values():
            waiting += [future for _, future in stops]
        for feeds in self._feeds.values():
            waiting += [future for _, future in feeds]
        self._stops.clear()
        self._feeds.clear()
        for future in waiting:
            if not future.done():
                future.set_exception(WorkerError(cause))
