"""A reader's own place in a job's output."""

from __future__ import annotations

from typing import Protocol

from mlepool.client.intake import Intake
from mlepool.client.output import EvictedError
from mlepool.wire.records import Record

__all__ = ["Reader", "Source"]


MAX_RECORDS = 16  # of 64 KiB at most: what is handed to a reader at once


class Source(Protocol):
    """What a reader reads: a listener."""

    intake: Intake

    @property
    def done(self) -> bool:
        """True once somebody has come to the end, and was told of it."""

    async def change(self) -> None:
        """Wait until something has come."""

    def end_reached(self, *, quiet: bool) -> None:
        """Note that a reader has come to the end; raise what is to be raised.

        Args:
            quiet: True to raise only what has cut the output off.
        """

    def again(self) -> Source:
        """Read the same job again from where this one began."""


class Reader:
    """A reader's own place in a job's output. What fails does not move it.

    What has left memory is read again from the worker: the journal's records are the
    same each time, so that counting them finds the place.

    Args:
        source: What to read.
        new: True to leave out what has come already.
        quiet: True to leave it to others to say that the command failed. One that
            begins after it was said is quiet, too.
    """

    def __init__(
        self, source: Source, *, new: bool = False, quiet: bool = False
    ) -> None:
        output = source.intake.output
        self._source = source
        self._place = output.end if new else 0
        self._given = output.records if new else 0
        self._again: Reader | None = None
        self._skip = 0
        self._quiet = quiet or source.done

    async def next(self) -> list[Record] | None:
        """Wait for the next records, as many as came together; None at the end."""
        while True:
            if self._again is not None:
                return await self._next_again(self._again)
            try:
                records = self._take()
            except EvictedError:
                self._again = Reader(self._source.again(), quiet=True)
                self._skip = self._given
                continue
            if records is not None:
                return records
            if self._source.intake.is_over:
                self._end()
                return None
            await self._source.change()

    def _take(self) -> list[Record] | None:
        output = self._source.intake.output
        if self._place >= output.end:
            return None
        records = output.batch(self._place)
        self._place += 1
        while self._place < output.end and len(records) < MAX_RECORDS:
            records = records + output.batch(self._place)
            self._place += 1
        self._given += len(records)
        self._source.intake.take(self._place)
        return records

    async def _next_again(self, again: Reader) -> list[Record] | None:
        while True:
            records = await again.next()
            if records is None:
                self._end()
                return None
            fresh = records[self._skip :]
            self._skip = max(0, self._skip - len(records))
            if fresh:
                return fresh

    def _end(self) -> None:
        quiet, self._quiet = self._quiet, True
        self._source.end_reached(quiet=quiet)
