"""The disk that journals are on: how full it is, told in the state and in the log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlepool.supervisor.files import look_at_disk

__all__ = ["DiskWatch"]

logger = logging.getLogger("mlepool.worker")

ROOM = 1024 * 1024  # bytes; with less the next output may find none


class DiskWatch:
    """Looks at the disk, and tells once that it is too full, and once that it is not.

    Args:
        folder: Where journals are.
        keep_free: The part of the disk, 0 to 1, that is to be free.
        tell: Told how the disk is, when its status is another one.

    Attributes:
        dropped: Bytes of output that could not be kept since the worker's start.
        keep_free: As given; may be set.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keep_free: float,
        tell: Callable[[dict[str, Any]], None] = lambda state: None,
    ) -> None:
        self._folder = folder
        self._tell = tell
        self._status = "ok"
        self.keep_free = keep_free
        self.dropped = 0

    @property
    def is_ok(self) -> bool:
        """False if it was too full when it was last looked at."""
        return self._status == "ok"

    def state(self) -> dict[str, Any]:
        """Say how the disk is; ``status`` is ``"ok"``, ``"low"`` or ``"full"``."""
        disk = look_at_disk(self._folder)
        status = "ok"
        if disk.size and disk.free < ROOM:
            status = "full"
        elif disk.lacks(self.keep_free):
            status = "low"
        return {"status": status, "free": disk.free, "dropped": self.dropped}

    def look(self) -> None:
        """Tell, and log, if that has changed."""
        found = self.state()
        status, before = found["status"], self._status
        if status == before:
            return
        self._status = status
        self._tell(found)
        if "ok" in {status, before}:
            log = logger.info if status == "ok" else logger.warning
            text = "the disk of %s is %s: %d bytes are free, %d bytes were not kept"
            log(text, self._folder, status, found["free"], self.dropped)
