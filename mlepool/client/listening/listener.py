"""AsyncListener: the handle of one command; its messages and its outcome."""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Any, Protocol, Self

from mlepool.client.listening.expectation import Expectation
from mlepool.client.listening.facts import Facts, Status
from mlepool.client.listening.feeder import Feeder
from mlepool.client.listening.intake import Intake
from mlepool.client.listening.lines import LineDecoder
from mlepool.client.listening.output import EvictedError
from mlepool.client.listening.points import PointParser, Points, WatchedPoints
from mlepool.client.listening.reader import Reader
from mlepool.client.listening.sources import chunks
from mlepool.client.listening.summary import summary
from mlepool.client.listening.values import ValueDecoder
from mlepool.client.options import CallOptions
from mlepool.errors import ClientError, ListenerTimeoutError
from mlepool.wire.records import STREAM_NAMES
from mlepool.wire.telemetry import JobSample
from mlepool.wire.values import StopReport

__all__ = ["AsyncListener", "Owner", "Status"]

TIMEOUT_SLACK = 3.0  # seconds after the deadline for the worker's proof of the stop


class Owner(Protocol):
    """What a listener needs of its connection."""

    name: str

    async def stop_job(self, job_id: str, signal: str, *, grace: float) -> StopReport:
        """Stop a job."""

    async def feed_job(
        self, job_id: str, data: bytes, *, offset: int, end: bool, writer: str
    ) -> None:
        """Write to a job's stdin; returns when it has been taken."""

    async def resize_job(self, job_id: str, rows: int, cols: int) -> None:
        """Give a job's terminal another size."""

    def give_credit(self, listener: AsyncListener, position: int) -> None:
        """Tell the worker how far it may send."""

    def look(self, listener: AsyncListener) -> None:
        """Ask the worker where the output ends now; nothing without a link."""

    def leave(self, listener: AsyncListener) -> None:
        """Receive no more for a listener."""

    def job_metrics(self, job_id: str) -> JobSample | None:
        """Give what a job uses, as far as that is known."""

    def release(self, job_id: str) -> bool:
        """Own a job no more; False if the worker can't have heard of it yet."""

    def reread(self, listener: AsyncListener) -> AsyncListener:
        """Read a job's output again from where the listener began."""


class AsyncListener(Facts):
    """The handle of one command: its messages as they come, and its outcome.

    For ``run`` a message is a line (:class:`~mlepool.Line`), a str with ``stream`` and
    ``end``. For a command that yields, each value is a message, and what it logs
    comes between them as lines of stderr; None is no message. A command that only
    returns a value (also a list) has that value as its one message, and ``str()`` of
    its listener is that of the value.

    ``async for`` starts at the first message each time; ``next()`` has a place of its
    own. The job does not depend on its listener: it goes on when the listener is closed
    or garbage-collected. When a link is lost, the listener goes on over the next one
    where it was: no byte is missing, and none comes twice.

    Cancelling a wait (``asyncio.timeout``, Ctrl-C) cancels the wait only: the job goes
    on, and the listener stays usable.

    Attributes:
        id: The job's id, for ``attach`` and ``stop``.
        host: Name of the connection.
        command: What runs, for people.
        timeout: Seconds for the whole command; None for no limit.
        raise_error: True to raise what failed.
        max_interval: Longest silence between two messages, seconds; None for any.
            May be set at any time.
    """

    def __init__(
        self,
        job_id: str,
        command: str,
        options: CallOptions,
        *,
        owner: Owner,
        position: int = 0,
        is_to_come: bool = False,
    ) -> None:
        super().__init__(
            job_id,
            command,
            host=owner.name,
            options=options,
            intake=Intake(
                options,
                lambda limit: self._owner.give_credit(self, limit),
                look=lambda: self._owner.look(self),
                begin=position,
            ),
        )
        self.is_to_come = is_to_come
        self.max_interval = options.max_interval
        self._owner = owner
        self._seen_end = False  # before any reader asks
        self._reader = Reader(self)
        self._decoder: LineDecoder | ValueDecoder | None = None
        self._next_ended = False
        self._waiting: Iterator[Any] = iter(())
        self._index: _Index | None = None
        self._expired = False
        self._expectation = Expectation()
        self.feeder = Feeder(self._feed)
        self._timer = None if is_to_come else self._set_timer()
        self._watched: WatchedPoints | None = None

    @property
    def done(self) -> bool:
        """True once the command has ended and its last message was handed out."""
        return self._seen_end

    def __len__(self) -> int:
        return len(self._messages())

    def __getitem__(self, index: int | slice) -> Any:
        return self._messages()[index]

    def __bool__(self) -> bool:
        return True  # a handle, not a container: an empty one is still there

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {summary(self)}>"

    @property
    def metrics(self) -> JobSample | None:
        """What its tree of processes uses, by the worker's latest sample of jobs.

        None before one has come: samples come from the first look at this on, as often
        as the worker takes them (``set_metrics(jobs=...)``, 10 s by default). After
        its end, the last one. Of commands inside the worker there are none.
        """
        return self._owner.job_metrics(self.id)

    @property
    def points(self) -> Points:
        """The data points that it has printed so far; they go on coming in.

        Lines of stdout that are ``#name 1 2.5``, or a JSON object with ``metric``.

        Raises:
            EvictedError: If output has left memory before this was first asked for;
                :meth:`read_points` reads it again.
        """
        self._watched = self._watched or WatchedPoints(self.intake)
        return self._watched.points

    # -- messages

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._iterate()

    async def next(self) -> Any:
        """Wait for the next message; None at the end, and ever after.

        Raises:
            ListenerTimeoutError: After ``max_interval`` of silence; go on as you like.
            CommandTimeoutError: At the command's deadline.
            CommandError, RemoteError: What failed, if ``raise_error``. This and the
                one before are raised once for each reader, and by every ``wait()``.
            ConnectionLostError: If the link was lost for good.
            Exception: What the iterator given as ``input`` has raised: at the end,
                once.
        """
        self._expectation.clear()
        return await self._next()

    async def _next(self) -> Any:
        while True:
            for message in self._waiting:
                return message
            if self._next_ended:
                return None
            records = await self._reader.next()
            self._decoder = self._decoder or self.new_decoder()
            if records is not None:
                self._waiting = self._decoder.decode(records)
            else:
                self._waiting = iter(self._decoder.finish())
                self._next_ended = True

    async def batches(self) -> AsyncIterator[list[Any]]:
        """Give messages from the first on, as many at a time as came together."""
        reader, decoder = Reader(self), None
        while (records := await reader.next()) is not None:
            decoder = decoder or self.new_decoder()
            messages = list(decoder.decode(records))
            if messages:
                yield messages
        rest = (decoder or self.new_decoder()).finish()
        if rest:
            yield rest

    async def records(self) -> AsyncIterator[tuple[float, str, bytes]]:
        """Give output as it was read from the process: time, stream, bytes.

        Yields:
            Seconds since the epoch, ``"stdout"`` or ``"stderr"``, and the bytes. Of a
            command that yields, also ``"yielded"``, and what it has, as packed.
        """
        reader = Reader(self)
        while (records := await reader.next()) is not None:
            for record in records:
                if record.data:
                    yield record.time, STREAM_NAMES[record.stream], record.data

    async def read(self, stream: str | None = None) -> Any:
        """Wait for the end and give all output, also what has left memory.

        Args:
            stream: ``"stdout"``, ``"stderr"``, or None for both in their order.
        """
        await self._wait_for_end()
        self.end_reached(quiet=True)
        try:
            return self._held_text(stream)
        except EvictedError:
            wanted = ("stdout", "stderr") if stream is None else (stream,)
            parts = [data async for _, name, data in self.records() if name in wanted]
            return self._text(b"".join(parts))

    async def read_points(self) -> Points:
        """Wait for the end and give all data points, also of what has left memory."""
        await self._wait_for_end()
        try:
            return self.points
        except EvictedError:
            parser = PointParser(is_start=self.intake.begin == 0)
            async for _, stream, data in self.records():
                if stream == "stdout":
                    parser.feed(data)
            parser.finish()
            return parser.points

    async def wait(self) -> Self:
        """Wait for the end, whether messages are read or not.

        Raises:
            CommandTimeoutError, CommandError, RemoteError, ConnectionLostError: As
                :meth:`next`.
        """
        await self._wait_for_end()
        self.end_reached()
        return self

    async def expect(self, pattern: str | re.Pattern[str]) -> re.Match[str]:
        """Read on, at the place of :meth:`next`, until a pattern is found.

        It is looked for in the text that has come since the last match, or since the
        last ``next()``: within a line (a prompt, too) or over several. The latest
        64 Ki characters are looked at. What comes after the match stays, for another
        ``expect()``; ``next()`` goes on with the message after it.

        Args:
            pattern: A regular expression, where ``^`` and ``$`` are a line's edges; a
                compiled one is taken as it is. Bytes with ``encoding=None``.

        Raises:
            ListenerTimeoutError: After ``max_interval`` of silence; shows the last of
                the text, which another ``expect()`` still has.
            EOFError: If the command ends before.
        """
        seen = self._expectation
        while (found := seen.search(pattern)) is None:
            try:
                message = await self._next()
            except ListenerTimeoutError as exc:
                exc.pattern, exc.tail = pattern, seen.tail
                raise
            if message is None:
                raise EOFError(
                    f"{self.command!r} ended before {pattern!r} was seen; the last "
                    f"that came: {seen.tail!r}"
                )
            seen.add(message, self._waiting)
        self._waiting = itertools.chain(seen.give_back(), self._waiting)
        return found

    def clear_messages(self) -> None:
        """Let go of all messages that have come; ``next()`` goes on with new ones."""
        self._waiting = iter(())
        self._expectation.clear()
        self._reader, self._decoder = Reader(self, new=True), None
        self.intake.output.clear()

    # -- the job

    async def stop(self, signal: str = "SIGINT", *, grace: float = 10.0) -> StopReport:
        """Stop the job: its whole tree of processes, with proof.

        Args:
            signal: The first signal; SIGTERM and SIGKILL follow.
            grace: Seconds between two of them.

        Returns:
            What was signalled, and what survived; of a job that has ended, its status.
        """
        outcome = self.intake.outcome
        if outcome is not None and self.status is not Status.LOST:
            return StopReport(self.id, outcome.status)
        return await self._owner.stop_job(self.id, signal, grace=grace)

    async def send_input(self, data: str | bytes) -> None:
        """Write to the process's stdin; returns when its pipe has taken it.

        The command must have been started with ``stdin=True``, ``input=`` or
        ``tty=True``, by this listener's client or another. Each byte gets there once,
        also over a lost link. Cancelling this cancels the wait: the data goes on its
        way, as a whole, and what is sent later comes after it.

        Raises:
            BrokenPipeError: If its stdin is closed, or the job has ended.
        """
        if isinstance(data, str):
            data = data.encode(self.options.encoding or "utf-8")
        await self.feeder.send(data)

    async def close_input(self) -> None:
        """Close the process's stdin; twice is fine.

        At a terminal the end-of-file character is typed (twice in the middle of a
        line): what reads there comes to an end, and nothing more can be sent.
        """
        await self.feeder.close()

    async def resize(self, rows: int, cols: int) -> None:
        """Give the job's terminal another size; nothing if the job has ended.

        Raises:
            ValueError: If it has no terminal (``tty=True``), or none can be so large.
        """
        await self._owner.resize_job(self.id, rows, cols)

    def close(self) -> None:
        """Stop listening; the job goes on. Twice is fine."""
        self._cancel_timer()
        self.intake.close()
        self._owner.leave(self)
        if not self.intake.is_over and not self.is_to_come:
            self.is_left = True
            self.intake.interrupt()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # -- within

    def begin(self, owner: Owner, options: CallOptions) -> None:
        """Be the handle of a call that begins now: so far it was of one to come.

        Args:
            owner: Whose call it is.
            options: What the caller asked for; how much to hold was settled before.
        """
        self._owner, self.options = owner, options
        self.timeout, self.raise_error = options.timeout, options.raise_error
        self.is_to_come = False
        self._began, self._in_line_until = time.time(), time.monotonic()
        self._timer = self._set_timer()
        self.intake.interrupt()

    def left_error(self) -> Exception | None:
        """Give what says that it goes on, and nobody listens; else None."""
        goes_on = self.is_left and not self.intake.is_over
        if not goes_on:
            return None
        if self.timeout is None:
            return ClientError(f"job {self.id}: its listener was closed; it goes on")
        return self._timeout_error(stopped=False)

    def again(self) -> AsyncListener:
        """Read the same job again from where this one began."""
        return self._owner.reread(self)

    def release(self, job_id: str) -> bool:
        """Have the connection own the job no more; see its ``release()``."""
        return self._owner.release(job_id)

    async def accepted(self) -> None:
        """Wait until the worker has started the command, put it in line, or refused."""
        while not self.intake.is_accepted and not self.intake.is_over:
            await self.change(silence=False)

    def placed(self, place: int) -> None:
        """Note its place in line, where no time counts; 0 once it has begun."""
        waited, self.intake.place = self.intake.place, place
        if place:
            self._cancel_timer()
        elif waited:
            self._cancel_timer()
            self._timer = self._set_timer()
            self._began, self._in_line_until = time.time(), time.monotonic()

    def ended(self) -> None:
        """Note that the outcome has come."""
        self._cancel_timer()
        self.feeder.stop()

    def feed_from(self, source: Any) -> None:
        """Feed the process in the background: all of a source, then the end."""
        self.feeder.pour(chunks(source, self.options.encoding or "utf-8"))

    def new_decoder(self) -> LineDecoder | ValueDecoder:
        """Make what turns this command's records into messages."""
        lines = LineDecoder(self.options.encoding, self.options.errors)
        if self.gives_value or self.intake.yields is not None:
            return ValueDecoder(lines, self.last_message)
        return lines

    async def _feed(self, data: bytes, **place: Any) -> None:
        await self._owner.feed_job(self.id, data, **place)

    async def _iterate(self) -> AsyncIterator[Any]:
        async for batch in self.batches():
            for message in batch:
                yield message

    async def change(self, *, silence: bool = True) -> None:
        """Wait until something has come, but not longer than ``max_interval``."""
        waits = self.place or self.is_to_come
        limit = self.max_interval if silence and not waits else None
        if limit is None:
            await self.intake.changed()
        else:
            try:
                async with asyncio.timeout(limit):
                    await self.intake.changed()
            except TimeoutError:
                raise ListenerTimeoutError(
                    self.host, self.command, seconds=limit, job_id=self.id
                ) from None
        expiry = self.take_expiry()
        if expiry is not None:
            raise expiry

    def take_expiry(self) -> Exception | None:
        """Give what says that time is up while the job goes on: to one who waits."""
        if not self._expired:
            return None
        self._expired = False
        return self._timeout_error(stopped=False)

    def end_reached(self, *, quiet: bool = False) -> None:
        """Note that a reader has come to the end; raise what is to be raised.

        Args:
            quiet: True to raise only what has cut the output off.
        """
        self._seen_end = True
        if self.intake.problem is not None:
            raise self.intake.problem
        problem = None if quiet else self.feeder.take_problem()
        if problem is not None:
            raise problem
        if not quiet and (self.raise_error or self.status is Status.TIMED_OUT):
            error = self.error
            if error is not None:
                raise error

    async def _wait_for_end(self) -> None:
        self.intake.begin_drain()
        try:
            while not self.intake.is_over:
                await self.change(silence=False)
        finally:
            self.intake.end_drain()

    def _set_timer(self) -> asyncio.TimerHandle | None:
        if self.timeout is None:
            return None
        slack = 0.0 if self.options.on_timeout == "detach" else TIMEOUT_SLACK
        loop = asyncio.get_running_loop()
        return loop.call_later(self.timeout + slack, self._expire)

    def _expire(self) -> None:
        if self.options.on_timeout == "detach":
            self._expired = self.is_left = True
            self.intake.interrupt()
        else:
            self.intake.fail(self._timeout_error(stopped=None))

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _messages(self) -> list[Any]:
        self._index = self._index or _Index(self)
        return self._index.messages()


class _Index:
    """The messages that have come, by number; made when somebody asks for one."""

    def __init__(self, listener: AsyncListener) -> None:
        self._listener = listener
        self._decoder = listener.new_decoder()
        self._place = 0
        self._messages: list[Any] = []
        self._ended = False

    def messages(self) -> list[Any]:
        """Give all.

        Raises:
            EvictedError: If some have left memory before anybody asked.
        """
        intake = self._listener.intake
        while self._place < intake.output.end:
            self._messages += self._decoder.decode(intake.output.batch(self._place))
            self._place += 1
        if intake.is_over and not self._ended:
            self._messages += self._decoder.finish()
            self._ended = True
        return self._messages
