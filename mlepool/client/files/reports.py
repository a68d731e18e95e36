"""Reports: what a sync tells of what it does, and sums up in the end."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from typing import Any

from mlepool.client.files.meters import Meter
from mlepool.client.local import LocalJob
from mlepool.errors import SyncIncompleteError
from mlepool.files.base import Problem
from mlepool.wire.values import SyncProblem, SyncSummary

__all__ = ["Report", "quoted"]


class Report:
    """Tells a job's listener of a sync, over all its attempts.

    Args:
        job: Whose listener.
        meter: Counts.

    Attributes:
        meter: As given.
    """

    def __init__(self, job: LocalJob, meter: Meter) -> None:
        self.meter = meter
        self._job = job
        self._began = time.monotonic()
        self._said: set[bytes] = set()

    def say(self, sign: str, paths: Iterable[bytes]) -> None:
        """Tell of what was done, or will be; what was told before is not told again."""
        fresh = [one for one in paths if one not in self._said]
        if fresh:
            self._said.update(fresh)
            self._job.say(f"{sign} {one}" for one in _all_quoted(fresh))

    def summary(self, problems: Iterable[Problem], **facts: Any) -> SyncSummary:
        """Sum up."""
        found = tuple(SyncProblem(os.fsdecode(one.path), one.text) for one in problems)
        return SyncSummary(
            bytes_total=self.meter.bytes_total,
            bytes_sent=self.meter.sent,
            seconds=time.monotonic() - self._began,
            problems=found,
            **facts,
        )

    def finish(self, summary: SyncSummary) -> SyncSummary:
        """Give the summary, or raise what it says.

        Raises:
            SyncIncompleteError: If there were problems.
        """
        self._job.value = summary
        if summary.problems:
            raise SyncIncompleteError(summary)
        return summary

    def held(self) -> contextlib.AbstractContextManager[None]:
        """Run to the end, within it."""
        return self._job.held()


def _all_quoted(paths: list[bytes]) -> list[str]:
    """Quote many paths; all at once where none of them needs it."""
    text = b"\0".join(paths)
    is_plain = text.isascii() and b"'" not in text and b'"' not in text
    names = text.decode().split("\0") if is_plain else []
    if "".join(names).isprintable() and len(names) == len(paths):
        return names
    return [quoted(one) for one in paths]


def quoted(path: bytes) -> str:
    """Give a path for people: as it is if it can be printed, else in quotes."""
    text = os.fsdecode(path)
    return text if text.isprintable() and text[:1] not in "'\"" else repr(text)
