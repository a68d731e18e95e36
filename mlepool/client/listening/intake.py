"""What arrives for one call: output under credit, the outcome, and who waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mlepool.client.listening.output import Output
from mlepool.client.listening.pauses import Pauses
from mlepool.client.listening.values import Yields
from mlepool.client.options import CallOptions
from mlepool.errors import JobLostError, MlepoolError, RemoteProtocolError
from mlepool.wire.codec import Data
from mlepool.wire.messages import Outcome
from mlepool.wire.records import (
    MAX_RECORD,
    STDERR,
    STDOUT,
    YIELDED,
    BadRecordError,
    Record,
    RecordParser,
)
from mlepool.wire.window import ReceiveWindow

__all__ = ["Intake", "window_of"]

WINDOW = 4 * 1024 * 1024  # bytes that may come before the reader has taken any
MIN_MEMORY = 512 * 1024  # bytes; credit comes back by whole records, of 112 KiB

Errand = Callable[[Outcome, Callable[[Outcome], None]], None]

# What a worker may say of a command that has ended.
FINAL_STATUSES = frozenset({"SUCCEEDED", "FAILED", "STOPPED", "TIMED_OUT", "LOST"})


def window_of(options: CallOptions) -> int:
    """Give how many bytes may come for a call before a reader has taken any.

    What no reader has taken yet is within that, so that it is always held. A record
    that is cut is held with its last part: it has come before it counts.
    """
    return min(WINDOW, max(MIN_MEMORY, options.memory) - MAX_RECORD)


class Intake:
    """The receiving end of one call.

    Args:
        options: What the caller asked for.
        credit: Tells the worker up to which journal position it may send.
        look: Asks the worker where the output ends now.
        begin: Journal position of the first byte that comes.

    Attributes:
        begin: As given.
        output: What has come, as far as it is held.
        outcome: How the command ended; set after its last output has come.
        problem: Why nothing more will come, where that is not the command's end.
        is_accepted: True once the worker has started the command, or put it in line.
        place: Where in line it waits; 0 if it does not.
        yields: What the command has yielded, if it is a job inside the worker.
        errand: What is to be done before the end is told: given that, and what tells
            an end, this one or another.
    """

    def __init__(
        self,
        options: CallOptions,
        credit: Callable[[int], None],
        *,
        look: Callable[[], None] = lambda: None,
        begin: int = 0,
    ) -> None:
        self.output = Output(limit=max(MIN_MEMORY, options.memory))
        self.outcome: Outcome | None = None
        self.problem: MlepoolError | None = None
        self.is_accepted = False
        self.place = 0
        self.yields: Yields | None = None
        self.errand: Errand | None = None
        self._credit = credit
        self.begin = begin
        self._parser = RecordParser(checked=begin == 0)
        self._position = begin
        self._window = ReceiveWindow(begin, window_of(options))
        self._pauses = Pauses(look)
        self._taken = 0
        self._drains = 0
        self._ends: list[int] = []
        self._waiters: set[asyncio.Future[None]] = set()
        self._watchers: list[Callable[[], None]] = []

    @property
    def window(self) -> int:
        """Bytes that the worker may send from :attr:`received` on."""
        return self._window.limit - self._position

    @property
    def received(self) -> int:
        """Journal position after the last byte that has come."""
        return self._position

    @property
    def position(self) -> int:
        """Journal position after the last record that has come as a whole.

        And after the last message, where several records make one.
        """
        unfinished = self.yields.unfinished if self.yields is not None else 0
        return self._position - self._parser.pending - unfinished

    @property
    def is_over(self) -> bool:
        """True if nothing more will come."""
        return self.outcome is not None or self.problem is not None

    def expect_yields(self) -> None:
        """Note that it is a job inside the worker. Twice is fine."""
        if self.yields is None:
            self.yields = Yields()
            self.output.expect_yields()

    def accepted(self, *, streams: bool = False) -> None:
        """Note that the worker has started the command, or put it in line.

        Args:
            streams: True if it is a job inside the worker.
        """
        if streams and not self.is_accepted:
            self.expect_yields()
        self.is_accepted = True
        self._wake()

    def data(self, data: Data) -> None:
        """Take journal bytes.

        Raises:
            RemoteProtocolError: If they are not what must come next.
            BadRecordError: If they are no output; what comes before that is taken.
        """
        if self.problem is not None:
            return  # we gave up; what was on its way is no error
        if data.position != self._position or self.outcome is not None:
            raise RemoteProtocolError(
                f"output at {data.position}, expected at {self._position}"
            )
        payload = data.payload
        if self._position + len(payload) > self._window.limit:
            raise RemoteProtocolError("more output than there was credit for")
        self._position += len(payload)
        try:
            self._take_in(self._parser.feed(payload))
        except BadRecordError as exc:
            self._position -= exc.left
            self._parser.skip()
            self._take_in(exc.records)
            raise

    def made(self, records: list[Record]) -> None:
        """Take records that were made here: they come over no link."""
        if not self.is_over:
            self._position += sum(len(record.data) for record in records)
            self._add(records)

    def seen(self, position: int) -> None:
        """Note where the output ended just now; a prompt if that is here."""
        if position == self._position and not self._parser.pending and not self.is_over:
            paused = self._pauses.nothing_more()
            if paused:
                self._add(paused)

    def close(self) -> None:
        """Look for nothing more. Twice is fine."""
        self._pauses.stop()

    def _take_in(self, records: list[Record]) -> None:
        if records and self.yields is not None:
            self._note_yields(self.yields, records)
            self._pauses.note(one for one in records if one.stream != YIELDED)
            self._add(records)
        elif records:
            self._pauses.note(records)
            self._add(records)

    def _note_yields(self, yields: Yields, records: list[Record]) -> None:
        try:
            yields.note(records)
        except RemoteProtocolError as exc:
            raise BadRecordError(str(exc)) from exc

    def _add(self, records: list[Record]) -> None:
        try:
            self.output.add(records)
        except KeyError:
            text = "a process has no stream of what it yields"
            raise BadRecordError(text) from None
        self._ends.append(self._position)
        if self._drains:
            self.take(self.output.end)
        self._wake()

    def skip(self, position: int) -> None:
        """Go on after output that the worker has let go; records say how much.

        Raises:
            RemoteProtocolError: If that is not further on, or after the end.
        """
        if self.problem is not None:
            return
        if position <= self._position or self.outcome is not None:
            raise RemoteProtocolError(
                f"a skip to {position}, expected beyond {self._position}"
            )
        count = position - self._position
        self._window.skip(count)
        # What is still to be taken counts from beyond the gap, too: else no credit is
        # given for it, since it seems to lie so far behind the limit.
        self._ends = [end + count for end in self._ends]
        self._position = position
        self._parser.skip()
        if self.yields is not None:
            self.yields.skip()
        # Credit that was on its way was counted from before the gap: it fell short.
        self._credit(self._window.limit)

    def ended(self, outcome: Outcome) -> None:
        """Take the end.

        Raises:
            RemoteProtocolError: If output is missing.
            BadRecordError: If output is not what the worker read from the process.
        """
        if self.is_over:
            return
        if outcome.status not in FINAL_STATUSES:
            raise RemoteProtocolError(f"an end with the status {outcome.status[:40]!r}")
        if outcome.end != self._position:
            raise RemoteProtocolError(
                f"the end came at {self._position}, it should be at {outcome.end}"
            )
        if outcome.status == "LOST":
            self._parser.skip()  # nobody knows the rest of a record that was cut
        elif self._parser.pending:
            raise BadRecordError("the last record is cut")
        if outcome.digest:
            self._add_missing(outcome)
            self._check_digest(outcome)
        errand, self.errand = self.errand, None
        if errand is None:
            self._end(outcome)
        else:
            errand(outcome, self._end)

    def _check_digest(self, outcome: Outcome) -> None:
        if self.output.dropped or self.begin:
            return  # not all of what it was made of is here
        if outcome.digest != self.output.digest():
            raise BadRecordError(
                "the output is not what its digest was made of; the job had ended as "
                f"{outcome.status}, with the exit code {outcome.exit_code}"
            )

    def _end(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.close()
        self._wake()

    def _add_missing(self, outcome: Outcome) -> None:
        """Say what of the last output was not kept: no record follows to show it."""
        ends = {STDOUT: outcome.stdout, STDERR: outcome.stderr}
        if self.yields is not None:
            ends[YIELDED] = outcome.yielded
        records = self._parser.finish(ends, time=outcome.ended)
        if records and self.yields is not None:
            self.yields.note(records)
        if records:
            self.output.add(records)
            self._ends.append(self._position)

    def cut_off(self, problem: JobLostError) -> None:
        """Note that what follows can't be read, nor how it ended be believed."""
        if not self.is_over:
            self.problem = problem
            self._end(Outcome("LOST", end=self._position, reason=problem.cause))

    def fail(self, problem: MlepoolError) -> None:
        """Note that nothing more will come."""
        if not self.is_over:
            self.problem = problem
            self.close()
            self._wake()

    def interrupt(self) -> None:
        """Have those who wait look again."""
        self._wake()

    def take(self, number: int) -> None:
        """Note that somebody has taken all batches before a number."""
        count = min(number, len(self._ends) + self._taken) - self._taken
        if count <= 0:
            return
        position = self._ends[count - 1]
        del self._ends[:count]
        self._taken += count
        limit = self._window.consumed(position)
        if limit is not None and not self.is_over:
            self._credit(limit)

    def begin_drain(self) -> None:
        """Let output come as fast as it can, whether it is read or not."""
        self._drains += 1
        self.take(self.output.end)

    def end_drain(self) -> None:
        """Wait for readers again."""
        self._drains -= 1

    async def changed(self) -> None:
        """Wait until something has come."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(future)
        try:
            await future
        finally:
            self._waiters.discard(future)

    def watch(self, callback: Callable[[], None]) -> None:
        """Call something at once whenever something has come: it must not wait."""
        self._watchers.append(callback)

    def unwatch(self, callback: Callable[[], None]) -> None:
        """Call it no more; twice is fine."""
        if callback in self._watchers:
            self._watchers.remove(callback)

    def _wake(self) -> None:
        for callback in tuple(self._watchers):
            callback()
        for future in self._waiters:
            if not future.done():
                future.set_result(None)
