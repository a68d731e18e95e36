"""Data points that jobs print: lines of stdout, among all others.

Two kinds of line are points, and nothing else is:

* ``#loss 3 0.25``: a name right behind the ``#``, then one to sixteen numbers;
* ``{"metric": "loss", "step": 3, "value": 0.25}``: a JSON object. ``step`` may be
  missing; what else is in it is passed over.

Output is not looked at before somebody asks for its points.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Iterator, Mapping

import msgspec

from mlepool.client.listening.intake import Intake
from mlepool.client.listening.output import EvictedError
from mlepool.wire.records import STDOUT

__all__ = ["PointParser", "Points", "WatchedPoints", "parse_point"]

Number = int | float
Point = tuple[Number, ...]

MAX_POINTS = 100_000  # of one name; then every second one is let go
MAX_NAMES = 1000  # of one job; points of others are counted, and not kept
MAX_LINE = 64 * 1024  # bytes; a longer line is none
MAX_DIGITS = 400  # of a number: what reads longer ones takes its time

_NAME = re.compile(rb"#([A-Za-z_][\w.:/@%-]{0,199})((?:[ \t]+[^ \t]+){1,16})[ \t]*")
_INT = re.compile(rb"[+-]?\d+")
_FLOAT = re.compile(rb"[+-]?((\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|nan|inf|infinity)", re.I)


class _Json(msgspec.Struct):
    """A line of the second kind. Numbers only: no text, and no true."""

    metric: str
    value: int | float
    step: int | float | None = None


_json = msgspec.json.Decoder(_Json)


def parse_point(line: bytes) -> tuple[str, Point] | None:
    """Read a line that may be a point.

    Args:
        line: Without its newline.

    Returns:
        Its name and numbers; None if it is none, whatever it is.
    """
    line = line.rstrip(b"\r")
    if len(line) > MAX_LINE:
        return None
    if line.startswith(b"{"):
        return _of_json(line)
    found = _NAME.fullmatch(line)
    if found is None:
        return None
    numbers = [_number(word) for word in found[2].split()]
    point = tuple(one for one in numbers if one is not None)
    return (found[1].decode(), point) if len(point) == len(numbers) else None


def _of_json(line: bytes) -> tuple[str, Point] | None:
    try:
        found = _json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError):
        return None
    if found.step is None:
        return found.metric, (found.value,)
    return found.metric, (found.step, found.value)


def _number(word: bytes) -> Number | None:
    if len(word) > MAX_DIGITS:
        return None
    if _INT.fullmatch(word):
        return int(word)
    return float(word) if _FLOAT.fullmatch(word) else None


class Points(Mapping[str, list[Point]]):
    """A job's data points: by name, a list of tuples of numbers, the oldest first.

    Of a name that has 100,000 every second one is let go, so that a curve keeps its
    shape, its newest part in full.

    Attributes:
        thinned: How many were let go.
    """

    def __init__(self) -> None:
        self.thinned = 0
        self._lists: dict[str, list[Point]] = {}

    def __getitem__(self, name: str) -> list[Point]:
        return self._lists[name]

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._lists))

    def __len__(self) -> int:
        return len(self._lists)

    def __repr__(self) -> str:
        counts = ", ".join(f"{name}: {len(self[name])}" for name in self)
        return f"<Points {counts or 'none'}>"

    def add(self, name: str, point: Point) -> None:
        """Take a point."""
        if name not in self._lists and len(self._lists) >= MAX_NAMES:
            self.thinned += 1
            return
        points = self._lists.setdefault(name, [])
        if len(points) >= MAX_POINTS:
            # A list of its own: who looks at the old one is not disturbed.
            self._lists[name] = points = points[::2]
            self.thinned += MAX_POINTS - len(points)
        points.append(point)

    def rows(self) -> list[dict[str, str | Number]]:
        """Give all points as rows: ``name``, ``x``, ``y``, ``y2``, ``y3``...

        A point of one number has its place in the list as ``x``. pandas makes a table
        of them: ``pandas.DataFrame(listener.points.rows())``.
        """
        return [
            {"name": name, **_row(place, point)}
            for name in self
            for place, point in enumerate(tuple(self[name]))
        ]

    def frame(self) -> dict[str, list[str | Number | None]]:
        """Give the same as columns, None where a row has nothing."""
        rows = self.rows()
        names = dict.fromkeys(name for row in rows for name in row)
        return {name: [row.get(name) for row in rows] for name in names}


def _row(place: int, point: Point) -> dict[str, Number]:
    x, y, *more = point if len(point) > 1 else (place, *point)
    rest = {f"y{number}": one for number, one in enumerate(more, 2)}
    return {"x": x, "y": y, **rest}


class PointParser:
    """Finds points in a stream of bytes, wherever it is cut.

    Args:
        is_start: False if the first bytes may be the rest of a line.

    Attributes:
        points: What was found.
    """

    def __init__(self, *, is_start: bool = True) -> None:
        self.points = Points()
        self._pending: bytes | None = b"" if is_start else None

    def feed(self, data: bytes) -> None:
        """Take bytes."""
        first, newline, rest = data.partition(b"\n")
        if not newline:
            self._begin(first)
            return
        if self._pending is not None:
            self._take(self._pending + first)
        if b"#" in rest or b"{" in rest:
            *lines, last = rest.split(b"\n")
            for line in lines:
                self._take(line)
        else:
            last = rest[rest.rfind(b"\n") + 1 :]
        self._pending = b""
        self._begin(last)

    def skip(self) -> None:
        """Note that bytes are missing here."""
        self._pending = None

    def finish(self) -> None:
        """Take what is left at the end."""
        if self._pending is not None:
            self._take(self._pending)
        self._pending = None

    def _begin(self, part: bytes) -> None:
        """Note a part of a line; nothing of one that can be no point."""
        if self._pending is not None:
            line = self._pending + part
            is_none = line[:1] not in b"#{" or len(line) > MAX_LINE
            self._pending = None if is_none else line

    def _take(self, line: bytes) -> None:
        if line[:1] in (b"#", b"{"):
            found = parse_point(line)
            if found is not None:
                self.points.add(*found)


class WatchedPoints:
    """The points of one job's output, those that are still to come, too.

    Raises:
        EvictedError: If a part of the output has left memory already.
    """

    def __init__(self, intake: Intake) -> None:
        if not intake.output.is_whole:
            raise EvictedError("a part of the output has left memory")
        self._intake = weakref.proxy(intake)  # which holds this, as a watcher
        self._parser = PointParser(is_start=intake.begin == 0)
        self._place = 0
        self.points = self._parser.points
        self._catch_up()
        intake.watch(self._catch_up)

    def _catch_up(self) -> None:
        output = self._intake.output
        while self._place < output.end:
            for record in output.batch(self._place):
                if record.stream == STDOUT:
                    if record.dropped:
                        self._parser.skip()
                    self._parser.feed(record.data)
            self._place += 1
        if self._intake.is_over:
            self._parser.finish()
