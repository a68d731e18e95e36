"""Pace: how fast content goes over a link, and so whether packing it saves time."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from weakref import WeakKeyDictionary

__all__ = ["Pace", "Trip", "pace_of"]

FAST = 40_000_000  # bytes/s; about half of what one core packs, as it reads and sends
LEAST = 64 * 1024  # bytes; with less on the way its delay is measured, not the link
TRIPS = 8  # that are remembered: the fastest of them shows what the link can do


class Trip:
    """Bytes on their way.

    Attributes:
        there: Seconds of it that were not the link's: those that the worker needed.
        part: How much of them there was in the end, of what was announced.
    """

    def __init__(self) -> None:
        self.there = 0.0
        self.part = 1.0


class Pace:
    """Measures a link by what goes over it; it counts as slow until it was fast.

    Args:
        clock: Tells the time, in seconds.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._under_way = 0
        self._rates: deque[float] = deque(maxlen=TRIPS)

    @property
    def is_slow(self) -> bool:
        """Tell if content gets there sooner if it is packed."""
        return max(self._rates, default=0.0) < FAST

    @contextlib.contextmanager
    def trip(self, size: int) -> Iterator[Trip]:
        """Measure how long so many bytes take; what fails counts for nothing.

        What is ahead of them on the link is counted with them.
        """
        trip = Trip()
        self._under_way += size
        ahead, begin = self._under_way, self._clock()
        try:
            yield trip
        finally:
            self._under_way -= size
        self._note(ahead * trip.part, self._clock() - begin - trip.there)

    def _note(self, size: float, seconds: float) -> None:
        if size >= LEAST:
            self._rates.append(size / max(seconds, 1e-6))


_known: WeakKeyDictionary[object, dict[str, Pace]] = WeakKeyDictionary()


def pace_of(asker: object, direction: str) -> Pace:
    """Give the pace of what makes requests, which all of its syncs measure.

    Args:
        asker: It.
        direction: Which way content goes: a link may be slower one way.
    """
    return _known.setdefault(asker, {}).setdefault(direction, Pace())
