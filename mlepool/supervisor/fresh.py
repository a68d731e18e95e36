"""The latest bytes of a journal, as long as they are few.

Who is told that a journal has grown by a line or two is given them with the news: to
open the file and read them takes longer than all else that is done with them.
"""

from mlepool.supervisor.files import Piece

__all__ = ["MOST_FRESH", "Fresh"]

MOST_FRESH = 4096  # bytes; of more the file is read, in larger pieces


class Fresh:
    """What was written since it was asked for last; nothing once that is too much."""

    def __init__(self) -> None:
        self._data = b""
        self._is_much = False

    def add(self, header: bytes, data: Piece) -> None:
        """Note a record that was written at the journal's end."""
        size = len(self._data) + len(header) + len(data)
        self._is_much |= size > MOST_FRESH
        self._data = b"" if self._is_much else self._data + header + data

    def lose(self) -> None:
        """Note that others have written."""
        self._is_much, self._data = True, b""

    def take(self) -> bytes:
        """Give the journal's last bytes, those that are not known yet, or nothing."""
        data, self._data, self._is_much = self._data, b"", False
        return data
