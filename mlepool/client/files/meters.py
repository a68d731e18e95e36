"""Meters: how far a sync has come, and how fast it goes."""

from __future__ import annotations

import time
from collections import deque

from mlepool.wire.values import SyncProgress

__all__ = ["Meter"]

WINDOW = 5.0  # seconds over which a rate is taken
GRAIN = 0.25  # seconds between two points of it


class Meter:
    """Counts files and bytes.

    Attributes:
        files: Files that are done.
        files_total: Files that there are to do.
        bytes: Bytes that are there.
        bytes_total: Bytes of all.
        sent: Bytes that went over the link.
        waiting: Who has the tree, while it is waited for.
    """

    def __init__(self) -> None:
        self.sent = 0
        self.waiting = ""
        self.begin(0, 0)

    def begin(self, files_total: int, bytes_total: int) -> None:
        """Count from nothing."""
        self.files = 0
        self.files_total = files_total
        self.bytes = 0
        self.bytes_total = bytes_total
        self._points: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])

    def add(self, files: int = 0, size: int = 0) -> None:
        """Note what is done."""
        self.files += files
        self.bytes += size
        now = time.monotonic()
        if now - self._points[-1][0] >= GRAIN:
            self._points.append((now, self.bytes))
            while now - self._points[0][0] > WINDOW and len(self._points) > 2:
                self._points.popleft()

    def now(self) -> SyncProgress:
        """Give how far it has come."""
        begin, count = self._points[0]
        seconds = max(time.monotonic() - begin, 1e-3)
        rate = max(0.0, (self.bytes - count) / seconds)
        left = max(0, self.bytes_total - self.bytes)
        remaining = left / rate if rate else None
        whole = (self.files, self.files_total, self.bytes, self.bytes_total)
        return SyncProgress(*whole, rate, remaining, self.waiting)

    def wait_for(self, holder: str) -> None:
        """Note who has the tree; nobody, if it is empty."""
        self.waiting = holder
