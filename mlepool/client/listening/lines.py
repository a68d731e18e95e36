"""A job's output as lines: bytes in, text out, decoded at this edge and nowhere else.

A line knows what ended it: ``print(line, end=line.end)`` gives the output again.

* ``"\\n"``: a whole line;
* ``"\\r"``: a state of a line that the program has rewritten since (a progress bar);
  such states come at a bounded rate, the last one always as the whole line;
* ``""``: a part of a line: a prompt, after which the program waits; or a line too long
  to wait for its end; or one cut by the end of output.
"""

import codecs
import itertools
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Literal

from mlepool.wire.records import STDERR, STDOUT, STREAM_NAMES, Record

__all__ = ["BytesLine", "Line", "LineDecoder"]

MAX_PART = 64 * 1024  # characters; a longer line is delivered in parts
REWRITE_INTERVAL = 0.1  # seconds between two states of a line that is rewritten

StreamName = Literal["stdout", "stderr"]
Text = Any  # str or bytes, one of them throughout a decoder


class Line(str):
    """A line of output, without its newline.

    Attributes:
        stream: ``"stdout"`` or ``"stderr"``.
        end: What ended it: ``"\\n"``, ``"\\r"`` or ``""``, as the module says.
    """

    __slots__ = ()
    stream: ClassVar[StreamName] = "stdout"
    end: ClassVar[str] = "\n"

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (str(self), self.stream, self.end)


class BytesLine(bytes):
    """A line of output as bytes, for ``encoding=None``; else as :class:`Line`."""

    __slots__ = ()
    stream: ClassVar[StreamName] = "stdout"
    end: ClassVar[str] = "\n"

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (bytes(self), self.stream, self.end)


def _kinds(base: type) -> dict[tuple[int, str], type]:
    """Make a class for each stream and end: attributes that cost a line nothing."""
    kinds = {}
    for stream, name in STREAM_NAMES.items():
        for end in ("\n", "\r", ""):
            kind = type(
                base.__name__, (base,), {"__slots__": (), "stream": name, "end": end}
            )
            kind.__module__ = base.__module__
            kinds[stream, end] = kind
    return kinds


_TEXT_KINDS = _kinds(Line)
_BYTES_KINDS = _kinds(BytesLine)
_STREAM_OF = {name: number for number, name in STREAM_NAMES.items()}


def _again(data: Text, stream: str, end: str) -> Any:
    """Make a line again from what it was pickled as."""
    kinds = _TEXT_KINDS if isinstance(data, str) else _BYTES_KINDS
    return kinds[_STREAM_OF[stream], end](data)


class _Stream:
    """One stream's line in the making."""

    def __init__(self, number: int, encoding: str | None, errors: str) -> None:
        kinds = _BYTES_KINDS if encoding is None else _TEXT_KINDS
        self.whole, self.rewritten, self.part = (
            kinds[number, end] for end in ("\n", "\r", "")
        )
        self.newline: Text = b"\n" if encoding is None else "\n"
        self.carriage: Text = b"\r" if encoding is None else "\r"
        self.pending: Text = self.newline[:0]
        self.last_state = 0.0
        self.is_rewritten = False
        self.shown: Text = self.pending  # the state that was given last
        self._decoder = (
            None if encoding is None else codecs.getincrementaldecoder(encoding)(errors)
        )

    def decode(self, data: bytes, *, final: bool = False) -> Text:
        return data if self._decoder is None else self._decoder.decode(data, final)


class LineDecoder:
    """Turns records into lines, each stream by itself, in the order of records.

    Args:
        encoding: A Python codec; None gives bytes throughout.
        errors: What to do with bytes that are not text: as in :meth:`bytes.decode`.

    Raises:
        LookupError: If there is no such codec.
    """

    def __init__(self, encoding: str | None = "utf-8", errors: str = "replace") -> None:
        self._streams = {
            number: _Stream(number, encoding, errors) for number in (STDOUT, STDERR)
        }

    def decode(self, records: list[Record]) -> Iterator[Line | BytesLine]:
        """Give the lines that records complete; use them up before the next call.

        A line is made when it is taken: made all at once they would leave the
        processor's caches before anybody looks at them.
        """
        if len(records) == 1:
            return iter(self.feed(records[0]))
        return itertools.chain.from_iterable(map(self.feed, records))

    def feed(self, record: Record) -> Iterable[Line | BytesLine]:
        """Give the lines that a record completes."""
        stream = self._streams[record.stream]
        if record.dropped:
            return self._feed_with_gap(stream, record)
        if not record.data:
            return self._pause(stream)
        text = stream.decode(record.data)
        if stream.pending:
            text = stream.pending + text
        parts = text.split(stream.newline)
        stream.pending = parts.pop()
        if parts:
            stream.is_rewritten, stream.shown = False, text[:0]
        if stream.carriage not in text and len(stream.pending) < MAX_PART:
            return map(stream.whole, parts)
        lines = [stream.whole(_last_state(one, stream.carriage)) for one in parts]
        lines += self._states(stream, record.time)
        if len(stream.pending) >= MAX_PART:
            lines += self._parts(stream)
        return lines

    def finish(self) -> list[Line | BytesLine]:
        """Give what is left at the end of output."""
        lines = []
        for stream in self._streams.values():
            text = stream.pending + stream.decode(b"", final=True)
            stream.pending = stream.newline[:0]
            if text:
                lines.append(stream.part(_last_state(text, stream.carriage)))
        return lines

    def _states(self, stream: _Stream, time: float) -> list[Line | BytesLine]:
        """Give the present state of a line that is being rewritten, if it is time."""
        states = [one for one in stream.pending.split(stream.carriage) if one]
        if not states or stream.carriage not in stream.pending:
            return []
        if not stream.pending.endswith(stream.carriage):
            stream.pending = states[-1]
        else:
            # What follows the return may be a newline, and then nothing is rewritten.
            stream.pending = states.pop() + stream.carriage
        stream.is_rewritten = stream.is_rewritten or bool(states)
        if not states or time - stream.last_state < REWRITE_INTERVAL:
            return []
        stream.last_state = time
        stream.shown = states[-1]
        return [stream.rewritten(states[-1])]

    def _pause(self, stream: _Stream) -> list[Line | BytesLine]:
        """Give what there is of a line in which the program waits."""
        if not stream.is_rewritten and stream.carriage not in stream.pending:
            return self._parts(stream)
        state = _last_state(stream.pending, stream.carriage)
        if not state or state == stream.shown:
            return []
        stream.is_rewritten, stream.shown = True, state
        return [stream.rewritten(state)]

    def _parts(self, stream: _Stream) -> list[Line | BytesLine]:
        text, stream.pending = stream.pending, stream.newline[:0]
        cuts = range(0, len(text), MAX_PART)
        return [stream.part(text[at : at + MAX_PART]) for at in cuts]

    def _feed_with_gap(self, stream: _Stream, record: Record) -> list[Line | BytesLine]:
        """Say in the stream that output is missing, then go on."""
        text: Text = f"[mlepool: {record.dropped} bytes of output were not kept]"
        said = text if isinstance(stream.newline, str) else text.encode()
        rest = stream.pending + stream.decode(b"", final=True)
        stream.pending = stream.newline[:0]
        lines = [stream.part(rest)] if rest else []
        return [*lines, stream.whole(said), *self.feed(record._replace(dropped=0))]


def _last_state(text: Text, carriage: Text) -> Text:
    """Give what a terminal would show of a line: what came after the last return."""
    if carriage not in text:
        return text
    states = [one for one in text.split(carriage) if one]
    return states[-1] if states else text[:0]
