"""A job's output as lines: bytes in, text out, decoded at this edge and nowhere else.

A line knows what ended it: ``print(line, end=line.end)`` gives the output again.

* ``"\\n"``: a whole line;
* ``"\\r"``: a state of a line that the program has rewritten since (a progress bar);
  such states come at a bounded rate, the last one always as the whole line;
* ``""``: a part of a line, too long to wait for its end, or cut by the end of output.
"""

import codecs
from typing import ClassVar, Literal

from mlepool.wire.records import STDERR, STDOUT, STREAM_NAMES, Record

__all__ = ["BytesLine", "Line", "LineDecoder"]

MAX_PART = 64 * 1024  # characters; a longer line is delivered in parts
REWRITE_INTERVAL = 0.1  # seconds between two states of a line that is rewritten

StreamName = Literal["stdout", "stderr"]


class Line(str):
    """A line of output, without its newline.

    Attributes:
        stream: ``"stdout"`` or ``"stderr"``.
        end: What ended it: ``"\\n"``, ``"\\r"`` or ``""``, as the module says.
    """

    __slots__ = ()
    stream: ClassVar[StreamName] = "stdout"
    end: ClassVar[str] = "\n"


class BytesLine(bytes):
    """A line of output as bytes, for ``encoding=None``; else as :class:`Line`."""

    __slots__ = ()
    stream: ClassVar[StreamName] = "stdout"
    end: ClassVar[str] = "\n"


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


class _Stream:
    """One stream's line in the making."""

    def __init__(self, number: int, encoding: str | None, errors: str) -> None:
        kinds = _BYTES_KINDS if encoding is None else _TEXT_KINDS
        self.whole, self.rewritten, self.part = (
            kinds[number, end] for end in ("\n", "\r", "")
        )
        self.newline = b"\n" if encoding is None else "\n"
        self.carriage = b"\r" if encoding is None else "\r"
        self.pending = self.newline[:0]
        self.last_state = 0.0
        self._decoder = (
            None if encoding is None else codecs.getincrementaldecoder(encoding)(errors)
        )

    def decode(self, data: bytes, *, final: bool = False) -> str | bytes:
        return data if self._decoder is None else self._decoder.decode(data, final)


class LineDecoder:
    """Turns records into lines, each stream by itself, in the order of records.

    Args:
        encoding: A Python codec; None gives bytes throughout.
        errors: What to do with bytes that are not text: as in :meth:`bytes.decode`.

    Attributes:
        progress: The latest state of a line that is rewritten.
    """

    def __init__(self, encoding: str | None = "utf-8", errors: str = "replace") -> None:
        self.progress: Line | BytesLine | None = None
        self._streams = {
            number: _Stream(number, encoding, errors) for number in (STDOUT, STDERR)
        }

    def feed(self, record: Record) -> list[Line | BytesLine]:
        """Give the lines that a record completes."""
        stream = self._streams[record.stream]
        lines: list[Line | BytesLine] = []
        if record.dropped:
            lines += self._gap(stream, record.dropped)
        text = stream.decode(record.data)
        if stream.pending:
            text = stream.pending + text  # type: ignore[operator]
        parts = text.split(stream.newline)  # type: ignore[arg-type]
        stream.pending = parts.pop()
        if stream.carriage in text:  # type: ignore[operator]
            parts = [_last_state(part, stream.carriage) for part in parts]
            lines += map(stream.whole, parts)
            lines += self._states(stream, record.time)
        else:
            lines += map(stream.whole, parts)
        if len(stream.pending) >= MAX_PART:
            lines += self._parts(stream)
        return lines

    def finish(self) -> list[Line | BytesLine]:
        """Give what is left at the end of output."""
        lines = []
        for stream in self._streams.values():
            text = stream.pending + stream.decode(b"", final=True)  # type: ignore[operator]
            stream.pending = stream.newline[:0]
            if text:
                lines.append(stream.part(_last_state(text, stream.carriage)))
        return lines

    def _states(self, stream: _Stream, time: float) -> list[Line | BytesLine]:
        """Give the present state of a line that is being rewritten, if it is time."""
        states = [one for one in stream.pending.split(stream.carriage) if one]  # type: ignore[arg-type]
        if not states or stream.carriage not in stream.pending:  # type: ignore[operator]
            return []
        ended = stream.pending.endswith(stream.carriage)  # type: ignore[arg-type]
        stream.pending = states[-1] + (
            stream.carriage if ended else stream.carriage[:0]
        )
        if time - stream.last_state < REWRITE_INTERVAL:
            return []
        stream.last_state = time
        self.progress = stream.rewritten(states[-1])
        return [self.progress]

    def _parts(self, stream: _Stream) -> list[Line | BytesLine]:
        text, stream.pending = stream.pending, stream.newline[:0]
        cuts = range(0, len(text), MAX_PART)
        return [stream.part(text[at : at + MAX_PART]) for at in cuts]

    def _gap(self, stream: _Stream, dropped: int) -> list[Line | BytesLine]:
        """Say in the stream that output is missing."""
        text = f"[mlepool: {dropped} bytes of output were not kept]"
        said = text.encode() if isinstance(stream.pending, bytes) else text
        lines = [stream.part(stream.pending)] if stream.pending else []
        stream.pending = stream.newline[:0]
        return [*lines, stream.whole(said)]


def _last_state(text: str | bytes, carriage: str | bytes) -> str | bytes:
    """Give what a terminal would show of a line: what came after the last return."""
    if carriage not in text:  # type: ignore[operator]
        return text
    states = [one for one in text.split(carriage) if one]  # type: ignore[arg-type]
    return states[-1] if states else text[:0]
