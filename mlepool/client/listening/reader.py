"""A reader's own place in a job's output."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from mlepool.client.listening.intake import Intake
from mlepool.client.listening.output import EvictedError
from mlepool.wire.records import STREAM_NAMES, Record

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

    What has left memory is read again from the worker. Offsets find the place: records
    in the middle may not be there any more.

    Args:
        source: What to read.
        new: True to leave out what has come already.
        quiet: True to leave it to others to say that the command failed; None if it
            was said already.
    """

    def __init__(
        self, source: Source, *, new: bool = False, quiet: bool | None = None
    ) -> None:
        self._source = source
        self._intake = source.intake
        output = self._intake.output
        self._place = output.end if new else 0
        self._given = output.offsets.copy() if new else dict.fromkeys(STREAM_NAMES, 0)
        self._again: Reader | None = None
        self._seen = dict.fromkeys(STREAM_NAMES, 0)
        self._quiet = source.done if quiet is None else quiet

    @property
    def is_at_once(self) -> bool:
        """True if :meth:`next` would not wait: there are records, or the end."""
        intake = self._intake
        return self._again is None and (
            self._place < intake.output.end or intake.is_over
        )

    def now(self) -> list[Record] | None:
        """Give what :meth:`next` would, where it would not wait.

        Raises:
            EvictedError: If :meth:`next` has to read from the worker again.
        """
        records = self._take()
        if records is None:
            self._end()
        return records

    async def next(self) -> list[Record] | None:
        """Wait for the next records, as many as came together; None at the end."""
        while True:
            if self._again is not None:
                return await self._next_again(self._again)
            try:
                records = self._take()
            except EvictedError:
                self._again = Reader(self._source.again(), quiet=True)
                continue
            if records is not None:
                return records
            if self._intake.is_over:
                self._end()
                return None
            await self._source.change()

    def _take(self) -> list[Record] | None:
        output = self._intake.output
        if self._place >= output.end:
            return None
        records = output.batch(self._place)
        self._place += 1
        while self._place < output.end and len(records) < MAX_RECORDS:
            records = records + output.batch(self._place)
            self._place += 1
        self._given = output.offsets_after(self._place - 1)
        self._intake.take(self._place)
        return records

    async def _next_again(self, again: Reader) -> list[Record] | None:
        while True:
            records = await again.next()
            if records is None:
                self._end()
                return None
            fresh = [one for record in records for one in self._fresh(record)]
            if fresh:
                return fresh

    def _fresh(self, record: Record) -> Iterator[Record]:
        """Give a record unless it was given before."""
        stream = record.stream
        begin = self._seen[stream] + record.dropped
        self._seen[stream] = begin + len(record.data)
        if self._seen[stream] > self._given[stream]:
            # What was let go since it was given is not missing.
            dropped = max(0, min(record.dropped, begin - self._given[stream]))
            yield record._replace(dropped=dropped)

    def _end(self) -> None:
        quiet, self._quiet = self._quiet, True
        self._source.end_reached(quiet=quiet)
