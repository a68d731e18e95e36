"""The last lines of a job's output, as far as they are held: for who only looks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from mlepool.client.listening.lines import LineDecoder
from mlepool.client.listening.output import Output
from mlepool.client.listening.values import ValueDecoder, shown
from mlepool.wire.records import YIELDED, Record

__all__ = ["Tail", "tail_of"]

MAX_BYTES = 16 * 1024  # of output that is looked at: it is done four times a second


class Tail(NamedTuple):
    """The last lines.

    Attributes:
        lines: The stream of each, and its text. What is rewritten (a progress bar)
            stands there once, in its latest state.
        is_cut: True if there was output before them.
    """

    lines: list[tuple[str, str]]
    is_cut: bool


def tail_of(output: Output, count: int, *, encoding: str | None = "utf-8") -> Tail:
    """Give the last lines that are held, a piece of a line among them.

    Args:
        output: What is held. It must not change meanwhile.
        count: How many lines at most.
        encoding: How bytes become text; what is none is replaced.
    """
    records, is_cut = _latest(output)
    decoder = ValueDecoder(LineDecoder(encoding or "utf-8"), lambda: None)
    messages = [*decoder.decode(records), *decoder.finish()]
    if is_cut and len(messages) > 1:
        del messages[0]  # most likely the end of a line
    lines = _as_seen(messages)
    return Tail(lines[-count:], is_cut or len(lines) > count)


def _latest(output: Output) -> tuple[list[Record], bool]:
    """Give the last records, and if something was before them."""
    taken: list[Record] = []
    room = MAX_BYTES
    for number in range(output.end - 1, output.held_from - 1, -1):
        for record in reversed(output.batch(number)):
            if room <= 0:
                return taken[::-1], True
            if len(record.data) > room and record.stream != YIELDED:
                taken.append(record._replace(data=record.data[-room:], dropped=0))
                return taken[::-1], True
            taken.append(record)
            room -= len(record.data)
    return taken[::-1], not output.is_whole


def _as_seen(messages: Iterable[Any]) -> list[tuple[str, str]]:
    """Put what is rewritten in its place, as a terminal does."""
    lines: list[tuple[str, str]] = []
    states: dict[str, int] = {}
    for message in messages:
        stream = getattr(message, "stream", "stdout")
        line = stream, shown(message)
        place = states.pop(stream, None)
        if place is None:
            lines.append(line)
        else:
            lines[place] = line
        if getattr(message, "end", "\n") == "\r":
            states[stream] = len(lines) - 1 if place is None else place
    return lines
