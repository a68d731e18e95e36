"""A listener's messages, read in a thread of the caller's.

They come through a :class:`~mlepool.client.sync.pump.Pump`, in batches.
"""

from __future__ import annotations

import itertools
import queue
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from mlepool.client.checks import check_wait
from mlepool.client.listening.expectation import Expectation
from mlepool.client.listening.lines import LineDecoder
from mlepool.client.listening.listener import AsyncListener
from mlepool.client.listening.values import ValueDecoder
from mlepool.client.portal import Portal
from mlepool.client.sync.interrupts import leave_alone
from mlepool.client.sync.pump import Pump
from mlepool.errors import ListenerTimeoutError
from mlepool.wire.records import Record

__all__ = ["Messages"]


class Messages:
    """The messages of one command, as :class:`~mlepool.Listener` hands them out.

    ``next()`` and ``expect()`` share a place; ``batches()`` and ``decoded()`` begin
    with the first each time.

    Args:
        listener: What is read.
        portal: To the loop that it lives in.
        own: Makes what is raised the caller's.

    Attributes:
        done: True once somebody has come to the end.
        max_interval: Longest silence between two messages, seconds; None for any.
    """

    def __init__(
        self,
        listener: AsyncListener,
        portal: Portal,
        *,
        own: Callable[[Exception], Exception],
    ) -> None:
        self.done = listener.done
        self.max_interval = listener.max_interval
        listener.max_interval = None  # silence is measured where it is waited for
        self._listener = listener
        self._portal = portal
        self._own = own
        self._pump: Pump | None = Pump(listener, portal)
        self._decoder: LineDecoder | ValueDecoder | None = None
        self._waiting: Iterator[Any] = iter(())
        self._expectation: Expectation | None = None  # made by the first expect()

    def next(self) -> Any:
        """Wait for the next message; None at the end, and ever after."""
        if self._expectation is not None:
            self._expectation.clear()
        for message in self._waiting:
            return message  # here, too: one call more would cost each a tenth
        return self._next()

    def expect(
        self, pattern: str | re.Pattern[str], timeout: float | None
    ) -> re.Match[str]:
        """Read on until a pattern is found; see :meth:`mlepool.Listener.expect`."""
        check_wait(timeout)
        seen = self._expectation = self._expectation or Expectation()
        deadline = None if timeout is None else time.monotonic() + timeout
        while (found := seen.search(pattern)) is None:
            try:
                message = self._next(deadline)
            except ListenerTimeoutError as exc:
                exc.pattern, exc.tail = pattern, seen.tail
                if deadline is not None and time.monotonic() >= deadline:
                    exc.seconds = timeout or 0.0
                raise
            if message is None:
                raise EOFError(
                    f"{self._listener.command!r} ended before {pattern!r} was seen; "
                    f"the last that came: {seen.tail!r}"
                )
            seen.add(message, self._waiting)
        self._waiting = itertools.chain(seen.give_back(), self._waiting)
        return found

    def decoded(self) -> Iterator[Iterable[Any]]:
        """Give messages from the first on, as many at a time as came together."""
        decoder = None
        for records in self.batches():
            decoder = decoder or self._listener.new_decoder()
            yield decoder.decode(records)
        self.done = True
        yield (decoder or self._listener.new_decoder()).finish()

    def batches(self) -> Iterator[list[Record]]:
        """Give records from the first on, as many at a time as came together."""
        pump = Pump(self._listener, self._portal)
        try:
            while (records := self._take(pump)) is not None:
                yield records
        finally:
            pump.stop()

    @contextmanager
    def leaving_alone(self) -> Iterator[None]:
        """Wait in this: Ctrl-C disowns the job, and says so."""
        try:
            yield
        except KeyboardInterrupt:
            self._leave_alone()
            raise

    def _leave_alone(self) -> None:
        listener = self._listener  # its host by now: a submitted run had none
        leave_alone(listener.release, listener.id, listener.host)

    def clear(self) -> None:
        """Let go of all that has come; ``next()`` goes on with what is new."""
        if self._pump is not None:
            self._pump.stop()
        self._waiting = iter(())
        self._expectation = None
        self._pump = Pump(self._listener, self._portal, new=True)
        self._decoder = None
        self._portal.do(self._clear)

    def end(self) -> None:
        """Have nothing more come to ``next()``; in the loop's thread, twice is fine."""
        pump = self._pump  # the reader's thread lets go of it at the end
        if pump is not None:
            pump.end()

    def _clear(self) -> None:
        self._listener.clear_messages()
        if self._pump is not None:
            self._pump.begin()  # now: what comes from here on is new

    def _next(self, deadline: float | None = None) -> Any:
        while True:
            for message in self._waiting:
                return message
            if self._pump is None:
                return None
            records = self._take(self._pump, deadline)
            self._decoder = self._decoder or self._listener.new_decoder()
            if records is not None:
                self._waiting = self._decoder.decode(records)
            else:
                self._waiting = iter(self._decoder.finish())
                self._pump, self.done = None, True

    def _take(self, pump: Pump, deadline: float | None = None) -> list[Record] | None:
        while True:
            limit, left = self.max_interval, None
            if deadline is not None:
                left = max(0.0, deadline - time.monotonic())
                limit = left if limit is None else min(left, limit)
            try:
                return pump.take(limit)
            except KeyboardInterrupt:
                self._leave_alone()
                raise
            except queue.Empty:
                assert limit is not None
                listener = self._listener
                if limit != left and listener.is_excused(limit):
                    continue
                raise ListenerTimeoutError(
                    listener.host, listener.command, seconds=limit, job_id=listener.id
                ) from None
            except Exception as exc:
                raise self._own(exc) from None
