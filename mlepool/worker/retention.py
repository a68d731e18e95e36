"""What is kept of jobs that have ended, and for how long."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from mlepool.config import Retention
from mlepool.supervisor.files import look_at_disk

__all__ = ["Shelf"]

HORIZON_FILE = ".forgotten"  # in the journals' folder: up to when jobs were let go
HORIZON_SIZE = 24  # bytes; a time is no longer than that
CLOCK_TICK = 0.1  # seconds; files' times go by a clock of the kernel's that lags behind
SUFFIX = ".journal"
BLOCK = 512  # bytes: the unit of st_blocks, whatever the file system's own is

logger = logging.getLogger("mlepool.worker")


class _Entry(NamedTuple):
    ended: float
    size: int
    path: str


class Shelf:
    """The journals of jobs that have ended.

    Args:
        folder: Where journals are.
        rules: What is kept.
        keep_free: The part of the disk, 0 to 1, that is to be free.

    Attributes:
        horizon: Of jobs that ended before this time, seconds since the epoch, some
            have been let go: whether an unknown one has run can't be told.
    """

    def __init__(self, folder: Path, rules: Retention, *, keep_free: float) -> None:
        self._folder = folder
        self._rules = rules
        self._keep_free = keep_free
        self._horizon_file = folder / HORIZON_FILE
        self.horizon = self._read_horizon()

    def change(self, rules: Retention, *, keep_free: float) -> None:
        """Keep to other rules from the next sweep on."""
        self._rules, self._keep_free = rules, keep_free

    def sweep(self, live: Collection[str]) -> list[str]:
        """Let go of what is kept no longer; blocking, for a thread of its own.

        Args:
            live: Ids of jobs that are not touched: they run, or are being read.

        Returns:
            The ids of the jobs that were let go.
        """
        if not self._horizon_file.exists():
            self._note(self.horizon)  # while there is room for it
        began = time.time()
        # What was written to since then may be a job's that has just begun to run.
        found = [one for one in self._scan(live) if one.ended < began - CLOCK_TICK]
        entries = sorted(found, reverse=True)
        kept = self._count(entries, began - self._rules.seconds)
        leaving = entries[kept:]
        leaving += self._leaving_for_room(entries[:kept], leaving)
        if leaving:
            # Noted first: a job that is gone and not known to be would run twice.
            self._note(max(one.ended for one in leaving))
            logger.info("letting go of %d jobs that have ended", len(leaving))
        for entry in leaving:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(entry.path)
        return [_job_id(one) for one in leaving]

    def _count(self, entries: list[_Entry], oldest: float) -> int:
        """Give how many of them, the newest first, keep to the rules."""
        size = 0
        for number, entry in enumerate(entries):
            size += entry.size
            too_many = number >= self._rules.jobs or size > self._rules.size
            if too_many or entry.ended < oldest:
                return number
        return len(entries)

    def _leaving_for_room(
        self, kept: list[_Entry], leaving: list[_Entry]
    ) -> list[_Entry]:
        """Choose more, the oldest first, where the disk is too full."""
        lacking = look_at_disk(self._folder).lacks(self._keep_free)
        lacking -= sum(one.size for one in leaving)
        more = []
        while kept and lacking > 0:
            more.append(kept.pop())
            lacking -= more[-1].size
        return more

    def latest(self, count: int) -> list[str]:
        """Give the ids of the jobs that ended last, the oldest of them first."""
        newest = sorted(self._scan(()), reverse=True)[:count]
        return [_job_id(one) for one in reversed(newest)]

    def _scan(self, live: Collection[str]) -> list[_Entry]:
        entries = []
        with os.scandir(self._folder) as found:
            for one in found:
                job_id = one.name.removesuffix(SUFFIX)
                if job_id == one.name or job_id in live:
                    continue
                with contextlib.suppress(FileNotFoundError):
                    stat = one.stat()
                    size = stat.st_blocks * BLOCK
                    entries.append(_Entry(stat.st_mtime, size, one.path))
        return entries

    def _read_horizon(self) -> float:
        try:
            return float(self._horizon_file.read_text())
        except FileNotFoundError:
            return 0.0
        except ValueError:
            return time.time()  # nobody knows what was in there

    def _note(self, horizon: float) -> None:
        """Write the horizon down, in place: a disk that is full has no room for more.

        Raises:
            OSError: If even that can't be done.
        """
        self.horizon = max(self.horizon, horizon)
        fd = os.open(self._horizon_file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(fd, f"{self.horizon:<{HORIZON_SIZE}}".encode(), 0)
            os.fsync(fd)
        finally:
            os.close(fd)


def _job_id(entry: _Entry) -> str:
    return os.path.basename(entry.path).removesuffix(SUFFIX)
