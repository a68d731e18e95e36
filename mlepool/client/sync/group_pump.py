"""GroupPump: moves the output of many hosts from the loop's thread to the caller's."""

from __future__ import annotations

import itertools
from typing import Any

import janus

from mlepool.client.groups.merge import Merge, Merged
from mlepool.client.groups.run import GroupRun
from mlepool.client.portal import Portal

__all__ = ["GroupPump"]

BATCHES_AHEAD = 4  # on their way to a blocking reader
MAX_HOSTS = (
    64  # whose output is in one batch, of 1 MiB each at most, as a rule far less
)


class GroupPump:
    """Moves what comes from all hosts to one reader's thread, in batches.

    As :class:`~mlepool.client.sync.pump.Pump`, in the callback that it comes in.

    Args:
        run: The call.
        portal: The way to the loop.
    """

    def __init__(self, run: GroupRun, portal: Portal) -> None:
        self._run = run
        self._portal = portal
        self._queue: janus.Queue[list[Merged] | None] | None = None
        self._merge: Merge
        self._is_full = False
        self._has_ended = False

    def take(self, timeout: float | None) -> list[Merged] | None:
        """Wait for a batch; None at the end.

        Raises:
            queue.Empty: If none came within the timeout.
        """
        if self._queue is None:
            self._portal.do(self._begin)
        assert self._queue is not None
        item = self._queue.sync_q.get(timeout=timeout)
        if self._is_full:
            self._portal.post(self._go_on)
        return item

    def stop(self) -> None:
        """Move no more; twice is fine."""
        self._portal.post(self._end)

    def _begin(self) -> None:
        self._queue = janus.Queue(maxsize=BATCHES_AHEAD)
        self._merge = Merge(self._run)
        self._merge.heard = self._move
        self._move()

    def _go_on(self) -> None:
        self._is_full = False
        self._move()

    def _move(self) -> None:
        """Move what is there, as far as there is room."""
        assert self._queue is not None
        target = self._queue.async_q
        while not self._has_ended:
            # Said first, then looked at: the reader's thread takes items meanwhile.
            self._is_full = True
            if target.full():
                return
            self._is_full = False
            merged = iter(self._merge.now, None)
            batch: Any = list(itertools.islice(merged, MAX_HOSTS))
            if not batch and not self._merge.is_over:
                return
            self._has_ended = not batch
            if self._has_ended:
                self._merge.close()
            target.put_nowait(batch or None)

    def _end(self) -> None:
        if self._queue is not None:
            self._has_ended = True
            self._merge.close()
            self._queue.close()
