"""The latest bytes of a journal, as long as they are few.

Who is told that a journal has grown by a line or two is given them with the news: to
open the file and read them takes longer than all else that is done with them.
"""

from collections.abc import Sequence

from mlepool.supervisor.files import Piece

__all__ = ["MOST_FRESH", "Fresh"]

MOST_FRESH = 4096  # bytes; of more the file is read, in larger pieces


class Fresh:
    """What was written since it was asked for last; nothing once that is too much."""

    def __init__(self) -> None:
        self._parts: list[Piece] = []
        self._size = 0

    def add(self, parts: Sequence[Piece]) -> None:
        """Note what was written at the journal's end."""
        self._size += sum(map(len, parts))
        if self._size <= MOST_FRESH:
            self._parts += parts
        else:
            self._parts.clear()

    def lose(self) -> None:
        """Note that others have written."""
        self._size = MOST_FRESH + 1
        self._parts.clear()

    def take(self) -> bytes:
        """Give the journal's last bytes, those that are not known yet, or nothing."""
        parts, self._parts, self._size = self._parts, [], 0
        return b"".join(parts)
