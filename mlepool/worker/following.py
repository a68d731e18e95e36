"""Whether anybody takes what a job writes, as it is written."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["Following"]

STILL = 0.1  # seconds in which no reader has got on: nobody follows


class Following:
    """Sees by where readers are if one of them gets on.

    Attributes:
        is_so: True if somebody follows.
    """

    def __init__(self) -> None:
        self.is_so = True
        self._is_known = False
        self._places: tuple[int, ...] = ()
        self._moved = 0.0

    def look(self, places: Iterable[int], *, now: float) -> bool:
        """Look where readers are, each time that the job has written much.

        Args:
            places: The position of each reader.
            now: As of ``time.monotonic()``.

        Returns:
            True if the answer is news.
        """
        there = tuple(places)
        if there != self._places:
            self._places, self._moved = there, now
        before, was_known = self.is_so, self._is_known
        self.is_so = bool(there) and now < self._moved + STILL
        self._is_known = True
        return self.is_so != before or not was_known
