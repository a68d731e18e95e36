"""Tells of changes in one call on many hosts, not too often."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from mlepool.client.groups.run import GroupRun
from mlepool.client.groups.slots import Slot

__all__ = ["Changes"]

logger = logging.getLogger("mlepool.client")

CHANGE_INTERVAL = 0.1  # seconds between two calls of a callback for "change"


class Changes:
    """Calls functions when a host has news, not too often.

    Args:
        run: The call.

    Attributes:
        callbacks: What to call.
    """

    def __init__(self, run: GroupRun) -> None:
        self.callbacks: list[Callable[[], object]] = []
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._is_due = False
        run.hear(self._heard)

    def _heard(self, slot: Slot) -> None:
        self._is_due = True
        if self._timer is None:
            self._timer = self._loop.call_later(0, self._call)

    def _call(self) -> None:
        self._timer = None
        if not self._is_due:
            return
        self._is_due = False
        self._timer = self._loop.call_later(CHANGE_INTERVAL, self._call)
        for callback in tuple(self.callbacks):
            try:
                callback()
            except (Exception, SystemExit):
                # Somebody else's code: it must not break the call.
                logger.exception("a callback for 'change' failed")
