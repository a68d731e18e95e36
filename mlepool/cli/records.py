"""Prints a job's output: raw, or line by line where the user wants lines."""

from __future__ import annotations

import collections
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import BinaryIO, NamedTuple

from mlepool.cli.printer import prefixes
from mlepool.cli.wording import complain
from mlepool.client.listening.lines import BytesLine, Line, LineDecoder
from mlepool.client.listening.values import Transcript
from mlepool.wire.records import STDERR, STDOUT, STREAM_NAMES, Record

__all__ = ["RecordPrinter", "View", "views"]


class View(NamedTuple):
    """What of a job's output is shown, and how.

    Attributes:
        since: Nothing that was printed before; seconds since the epoch.
        stream: One stream only.
        tail: Of what is there, the last lines; None for all.
        timestamps: Say of each line when it was printed.
        prefixes: What lines of each stream begin with, where there are several jobs.
        source: The host and the job, to print each line as a JSON object.
    """

    since: float = 0.0
    stream: int | None = None
    tail: int | None = None
    timestamps: bool = False
    prefixes: Mapping[str, str] = {}
    source: tuple[str, str] | None = None

    @property
    def has_lines(self) -> bool:
        """True if output is shown line by line, not byte for byte."""
        return bool(self.timestamps or self.prefixes or self.source)


class _Piece(NamedTuple):
    stream: int
    time: float
    data: bytes


def views(
    jobs: Sequence[tuple[str, str]], view: View | None = None, *, as_json: bool = False
) -> list[View]:
    """Give the views of several jobs, so that one can tell their lines apart.

    Args:
        jobs: The host and the id of each.
        view: What is shown of each of them.
        as_json: True to print each line as an object.
    """
    view = view or View()
    if as_json:
        return [view._replace(source=job) for job in jobs]
    if len(jobs) < 2:
        return [view for _ in jobs]
    hosts = [host for host, _ in jobs]
    # Several of one host have their ids, too.
    names = hosts if len({*hosts}) == len(hosts) else [" ".join(job) for job in jobs]
    out, err = prefixes(names, sys.stdout), prefixes(names, sys.stderr)
    return [
        view._replace(prefixes={"stdout": out[name], "stderr": err[name]})
        for name in names
    ]


class RecordPrinter:
    """Prints records: stdout to stdout, stderr to stderr.

    Bytes are left as they are, unless the view needs lines; those end at newlines,
    and of a line that was rewritten (a progress bar) only the last state is printed.
    What the worker has not kept is told of on stderr.
    """

    def __init__(self, view: View | None = None) -> None:
        self._view = view or View()
        self._files = {STDOUT: sys.stdout.buffer, STDERR: sys.stderr.buffer}
        self._transcript = Transcript()
        self._decoder = LineDecoder(encoding=None)
        self._last: BinaryIO = self._files[STDOUT]
        self._in_line: set[int] = set()
        self._latest = 0.0  # the time of the last record
        self._tail: collections.deque[_Piece] | None = None
        if self._view.tail is not None:
            self._tail = collections.deque(maxlen=self._view.tail)

    def take(self, records: Sequence[Record]) -> None:
        """Print what is to be printed of records, or keep it for the tail."""
        records = self._transcript.translate(records)
        wanted = [one for one in records if self._is_wanted(one)]
        if self._tail is not None:
            self._tail.extend(self._lines(wanted))
        elif self._view.has_lines:
            self._print(self._lines(wanted))
        else:
            for record in wanted:
                if record.dropped:
                    name = STREAM_NAMES[record.stream]
                    complain(f"{record.dropped} bytes of {name} were not kept")
                self._write(record.stream, record.data)
            self._last.flush()

    def end_history(self) -> None:
        """Print the tail, if one was asked for: what comes now is new."""
        if self._tail is not None:
            kept, self._tail = self._tail, None
            if not self._view.has_lines:
                kept.extend(self._rest())  # what follows it will be printed raw
            self._print(kept)

    def finish(self) -> None:
        """Print what is left at the end of output."""
        if self._tail is not None:
            self._tail.extend(self._rest())
            self.end_history()
        elif self._view.has_lines:
            self._print(self._rest())

    def _is_wanted(self, record: Record) -> bool:
        view = self._view
        return record.time >= view.since and view.stream in (None, record.stream)

    def _lines(self, records: Iterable[Record]) -> Iterable[_Piece]:
        for record in records:
            for line in self._decoder.feed(record):
                if line.end != "\r":
                    yield _Piece(record.stream, record.time, _raw(line))
            self._latest = record.time

    def _rest(self) -> Iterable[_Piece]:
        streams = {name: number for number, name in STREAM_NAMES.items()}
        for line in self._decoder.finish():
            yield _Piece(streams[line.stream], self._latest, _raw(line))

    def _print(self, pieces: Iterable[_Piece]) -> None:
        for piece in pieces:
            stream, _, data = piece
            if self._view.source is not None:
                self._write(STDOUT, _object(piece, self._view.source))
                continue
            if self._view.prefixes and not data.endswith(b"\n"):
                data += b"\n"  # another job's line may come next
            is_begin = stream not in self._in_line
            self._write(stream, self._front(piece) + data if is_begin else data)
            if data.endswith(b"\n"):
                self._in_line.discard(stream)
            else:
                self._in_line.add(stream)
        self._last.flush()

    def _front(self, piece: _Piece) -> bytes:
        """Give what a line begins with."""
        prefix = self._view.prefixes.get(STREAM_NAMES[piece.stream], "").encode()
        return prefix + _stamp(piece.time) if self._view.timestamps else prefix

    def _write(self, stream: int, data: bytes) -> None:
        file = self._files[stream]
        if file is not self._last:
            self._last.flush()  # both may be one file or terminal: keep the order
            self._last = file
        file.write(data)


def _raw(line: Line | BytesLine) -> bytes:
    assert isinstance(line, bytes)
    return line + line.end.encode()


def _object(piece: _Piece, source: tuple[str, str]) -> bytes:
    facts = {
        "host": source[0],
        "id": source[1],
        "time": piece.time,
        "stream": STREAM_NAMES[piece.stream],
        "text": piece.data.decode(errors="replace").removesuffix("\n"),
    }
    return json.dumps(facts).encode() + b"\n"


def _stamp(time: float) -> bytes:
    local = datetime.fromtimestamp(time).astimezone()
    return f"{local.isoformat(timespec='milliseconds')} ".encode()
