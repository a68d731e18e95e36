"""What jobs inside the worker yield: values and progress, between what they log."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from mlepool.client.listening.lines import BytesLine, Line, LineDecoder
from mlepool.errors import RemoteProtocolError
from mlepool.wire.records import HEADER_SIZE, STDERR, STDOUT, YIELDED, Record
from mlepool.wire.values import Progress
from mlepool.wire.yields import PROGRESS, VALUE, YieldParser

__all__ = ["Transcript", "ValueDecoder", "Yields", "is_line", "shown"]


def is_line(message: Any) -> bool:
    """Tell a line that a job printed or logged from a value that it yielded."""
    return isinstance(message, Line | BytesLine)


def shown(message: Any) -> str:
    """Give a message as people see it: a line as it is, a value by its repr."""
    if isinstance(message, BytesLine):
        return message.decode("utf-8", "replace")
    return message if isinstance(message, Line) else repr(message)


class Yields:
    """Watches what one job yields as it arrives, whether somebody reads it or not.

    Attributes:
        progress: How far the job has come, by its own account; None if it said nothing.
        has_values: True once it has yielded a value, kept or not.
        unfinished: Journal bytes that have come since a message began that is not
            whole yet: who goes on elsewhere must begin before them.
    """

    def __init__(self) -> None:
        self.progress: Progress | None = None
        self.has_values = False
        self.unfinished = 0
        self._parser = YieldParser()

    def note(self, records: Iterable[Record]) -> None:
        """Take records as they come.

        Raises:
            RemoteProtocolError: If they hold what no command can yield.
        """
        for record in records:
            if record.stream == YIELDED:
                self._note(record)
            within = self._parser.is_within
            size = HEADER_SIZE + len(record.data)
            self.unfinished = self.unfinished + size if within else 0

    def skip(self) -> None:
        """Note a gap in the journal: what has begun before it is not gone on with."""
        self.unfinished = 0
        self._parser.skip()

    def _note(self, record: Record) -> None:
        if record.dropped:
            self._parser.skip()
            self.has_values = True
        for kind, payload in self._parser.feed(record.data):
            if kind == PROGRESS:
                self.progress = _progress(payload)
            else:
                self.has_values = True


class ValueDecoder:
    """Turns records into messages: yielded values, and lines of what was logged.

    None is no message: it says that there are none any more. What was not kept is told
    of in a line of stderr.

    Args:
        lines: For what is no value.
        last: Gives the message that ends it: what the command returned, if it has
            yielded nothing; None for no message.
    """

    def __init__(self, lines: LineDecoder, last: Callable[[], Any]) -> None:
        self._lines = lines
        self._last = last
        self._parser = YieldParser()

    def decode(self, records: list[Record]) -> Iterator[Any]:
        """Give the messages that records complete; use them up before the next call."""
        return itertools.chain.from_iterable(map(self._feed, records))

    def finish(self) -> list[Any]:
        """Give what is left at the end."""
        last = self._last()
        return [*self._lines.finish(), *([] if last is None else [last])]

    def _feed(self, record: Record) -> Iterable[Any]:
        if record.stream != YIELDED:
            return self._lines.feed(record)
        return self._values(record)

    def _values(self, record: Record) -> Iterator[Any]:
        if record.dropped:
            self._parser.skip()
            yield from self._lines.feed(record._replace(stream=STDERR, data=b""))
        for kind, payload in self._parser.feed(record.data):
            if kind == VALUE and payload is not None:
                yield payload


class Transcript:
    """Puts the values among a job's records into words, for who prints its output."""

    def __init__(self) -> None:
        self._parser = YieldParser()

    def translate(self, records: Iterable[Record]) -> list[Record]:
        """Give the same records, but values as lines of stdout; without progress."""
        return [
            self._in_words(one) if one.stream == YIELDED else one for one in records
        ]

    def _in_words(self, record: Record) -> Record:
        if record.dropped:
            self._parser.skip()
        messages = self._parser.feed(record.data)
        text = "".join(f"{shown(one)}\n" for kind, one in messages if kind == VALUE)
        data = text.encode("utf-8", "replace")
        return record._replace(stream=STDOUT, data=data)


def _progress(payload: Any) -> Progress:
    try:
        return msgspec.convert(payload, Progress)
    except msgspec.ValidationError as exc:
        raise RemoteProtocolError(f"a progress is wrong: {exc}") from exc
