"""The messages of a command, as they come, and its output as a whole."""

from __future__ import annotations

import itertools
import re
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any, Self

from mlepool.client.listening.expectation import Expectation
from mlepool.client.listening.facts import Status
from mlepool.client.listening.intake import Intake
from mlepool.client.listening.lines import LineDecoder
from mlepool.client.listening.output import EvictedError
from mlepool.client.listening.points import PointParser, Points, WatchedPoints
from mlepool.client.listening.reader import Reader
from mlepool.client.listening.timing import Timed
from mlepool.client.listening.values import ValueDecoder
from mlepool.client.options import CallOptions
from mlepool.errors import ListenerTimeoutError
from mlepool.wire.records import STREAM_NAMES

__all__ = ["Messages"]


class Messages(Timed):
    """The messages of a command: each ``async for`` begins with the first.

    ``next()`` and ``expect()`` share a place of their own. All readers wait for the
    same end, and each is told once of what failed.
    """

    def __init__(
        self,
        job_id: str,
        command: str,
        *,
        options: CallOptions,
        intake: Intake,
        host: str,
        is_to_come: bool,
    ) -> None:
        super().__init__(
            job_id,
            command,
            options=options,
            intake=intake,
            host=host,
            is_to_come=is_to_come,
        )
        self._seen_end = False  # before any reader asks
        self._reader: Reader | None = None  # of next()
        self._decoder: LineDecoder | ValueDecoder | None = None
        self._next_ended = False
        self._waiting: Iterator[Any] = iter(())
        self._index: _Index | None = None
        self._expectation: Expectation | None = None  # made by the first expect()
        self._watched: WatchedPoints | None = None

    @property
    def done(self) -> bool:
        """True once the command has ended and its last message was handed out."""
        return self._seen_end

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

    def __len__(self) -> int:
        return len(self._messages())

    def __getitem__(self, index: int | slice) -> Any:
        return self._messages()[index]

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
        if self._expectation is not None:
            self._expectation.clear()
        return await self._next()

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

        Raises:
            ValueError: If there is no such stream.
        """
        if stream not in ("stdout", "stderr", None):
            raise ValueError(f"stream is 'stdout', 'stderr' or None, not {stream!r}")
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

    def end_seen(self) -> bool:
        """Tell if :meth:`wait` would return now.

        Raises:
            CommandTimeoutError, CommandError, RemoteError, ConnectionLostError: What
                it would raise.
        """
        error = self.take_expiry() or self.shut_error()
        if error is not None:
            raise error
        if self.intake.is_over:
            self.end_reached()
        return self.intake.is_over

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
        seen = self._expectation = self._expectation or Expectation()
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
        self._expectation = None
        self._reader, self._decoder = Reader(weakref.proxy(self), new=True), None
        self.intake.output.clear()

    def new_decoder(self) -> LineDecoder | ValueDecoder:
        """Make what turns this command's records into messages."""
        lines = LineDecoder(self.options.encoding, self.options.errors)
        if self.gives_value or self.intake.yields is not None:
            this = weakref.proxy(self)
            return ValueDecoder(lines, lambda: this.last_message())
        return lines

    def end_reached(self, *, quiet: bool = False) -> None:
        """Note that a reader has come to the end; raise what is to be raised.

        Args:
            quiet: True to raise only what has cut the output off.
        """
        self._seen_end = True
        if self.intake.problem is not None:
            raise self.intake.problem
        if not quiet:
            self._raise_failure()

    def again(self) -> Messages:
        """Read the same job again from where this one began."""
        raise NotImplementedError

    async def _next(self) -> Any:
        # One that is kept here must not keep the listener. It is as old as that: what
        # others were told is told here, too.
        self._reader = self._reader or Reader(weakref.proxy(self), quiet=False)
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

    async def _iterate(self) -> AsyncIterator[Any]:
        async for batch in self.batches():
            for message in batch:
                yield message

    def _raise_failure(self) -> None:
        if self.raise_error or self.status is Status.TIMED_OUT:
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

    def _messages(self) -> list[Any]:
        self._index = self._index or _Index(self.intake, self.new_decoder())
        return self._index.messages()


class _Index:
    """The messages that have come, by number; made when somebody asks for one."""

    def __init__(self, intake: Intake, decoder: LineDecoder | ValueDecoder) -> None:
        self._intake = intake
        self._decoder = decoder
        self._place = 0
        self._messages: list[Any] = []
        self._ended = False

    def messages(self) -> list[Any]:
        """Give all.

        Raises:
            EvictedError: If some have left memory before anybody asked.
        """
        intake = self._intake
        while self._place < intake.output.end:
            self._messages += self._decoder.decode(intake.output.batch(self._place))
            self._place += 1
        if intake.is_over and not self._ended:
            self._messages += self._decoder.finish()
            self._ended = True
        return self._messages
