"""Who gets samples: live ones to all who watch, kept ones to one who collects."""

from __future__ import annotations

import asyncio
import functools
from typing import Protocol

from mlepool.wire.messages import Event
from mlepool.worker.telemetry.samples import Kept, SampleStore
from mlepool.worker.threads import in_thread

__all__ = ["Delivery", "Link"]

MAX_BATCH = 128 * 1024  # bytes of samples in one event; one sample may have more


class Peer(Protocol):
    """The other end of a link."""

    @property
    def is_full(self) -> bool:
        """True while it takes less than it is sent."""


class Link(Protocol):
    """A client's link: a :class:`~mlepool.worker.service.Service`."""

    @property
    def peer(self) -> Peer:
        """Its other end."""

    def tell(self, event: Event) -> None:
        """Send the client an event."""


class _Collector:
    """Who gets what is kept.

    Attributes:
        link: Its link.
        name: Its own name for itself, the same over all its links.
        sent: The greatest id that went over this link.
        told: How many dropped samples it was told of with that.
    """

    def __init__(self, link: Link, name: str, after: int) -> None:
        self.link = link
        self.name = name
        self.sent = after
        self.told = 0


class Delivery:
    """Sends samples to those who follow.

    One of them collects, and gets all that are kept, in order, a batch after another:
    the next one once it has acknowledged that before. The others get each live sample
    as it is taken, if they take what they are sent.

    Args:
        store: The samples that are kept.
    """

    def __init__(self, store: SampleStore) -> None:
        self._store = store
        self._watchers: dict[Link, None] = {}
        self._collector: _Collector | None = None
        self._pumping: asyncio.Task[None] | None = None
        self._again = False

    @property
    def is_followed(self) -> bool:
        """True if anybody follows."""
        return bool(self._watchers) or self._collector is not None

    def follow(self, link: Link, name: str, after: int, *, collects: bool) -> bool:
        """Send samples to a client, or take its acknowledgement.

        Args:
            link: Its link.
            name: Its own name for itself, the same over all its links.
            after: The greatest id that it has; what is up to that is let go.
            collects: True if it wants what is kept, too.

        Returns:
            True if it gets what is kept: False if another one does.
        """
        collector = self._collector
        if collects and (collector is None or collector.name == name):
            told = 0
            if collector is None or collector.link is not link:
                self._store.pass_over(after)
                after = min(after, self._store.last)
                collector = self._collector = _Collector(link, name, after)
                self._watchers.pop(link, None)
            elif after >= collector.sent:
                told, collector.told = collector.told, 0
            self._store.acknowledge(after, told=told)
            self._pump()
            return True
        if collector is None or collector.link is not link:
            self._watchers[link] = None
        return False

    def sampled(self, sample: Kept, *, is_kept: bool) -> bool:
        """Send a new sample to those who follow.

        Args:
            sample: The sample.
            is_kept: False if there was no room for it: then or never.

        Returns:
            False if nobody will ever get it who collects.
        """
        for link in tuple(self._watchers):
            if not link.peer.is_full:
                link.tell(_event([sample]))
        if is_kept:
            self._pump()
        return is_kept or self._send_at_once(sample)

    def left(self, link: Link) -> None:
        """Note that a client is gone; what it has not acknowledged stays."""
        self._watchers.pop(link, None)
        if self._collector is not None and self._collector.link is link:
            self._collector = None

    def close(self) -> None:
        """Send no more; twice is fine."""
        self._watchers.clear()
        self._collector = None
        if self._pumping is not None:
            self._pumping.cancel()

    # -- within

    def _pump(self) -> None:
        self._again = True
        if self._pumping is None and self._collector is not None:
            loop = asyncio.get_running_loop()
            self._pumping = loop.create_task(self._send_all())

    def _send_at_once(self, sample: Kept) -> bool:
        """Send what is not kept, unless it would come before what is."""
        collector, store = self._collector, self._store
        if collector is None or collector.link.peer.is_full:
            return False
        if store.newest > collector.sent:
            return False
        dropped = store.dropped - collector.told
        collector.sent, collector.told = sample.id, store.dropped
        collector.link.tell(_event([sample], dropped=dropped))
        return True

    async def _send_all(self) -> None:
        try:
            while self._again:
                self._again = False
                await self._send()
        finally:
            self._pumping = None

    async def _send(self) -> None:
        """Send a batch, unless there is one that was not acknowledged yet."""
        collector, store = self._collector, self._store
        if collector is None or collector.sent > store.acknowledged:
            return
        read = functools.partial(store.read, collector.sent, limit=MAX_BATCH)
        batch = await in_thread(read, name="read samples")
        if not batch or collector is not self._collector:
            return
        collector.sent, collector.told = batch[-1].id, store.dropped
        collector.link.tell(_event(batch, dropped=store.dropped))


def _event(batch: list[Kept], *, dropped: int = 0) -> Event:
    return Event("metrics", [dropped, [list(one) for one in batch]])
