"""Which calls are open on a link: numbers to whatever answers or awaits them."""

from collections.abc import Iterator
from typing import Generic, TypeVar

from mlepool.errors import RemoteProtocolError

__all__ = ["CallTable"]

T = TypeVar("T")


class CallTable(Generic[T]):
    """Calls by number. Numbers only grow, so a closed call is known as closed.

    Frames for a closed call are normal, since both sides may end it at the same
    time; frames for a call that never was are a protocol error.
    """

    def __init__(self) -> None:
        self._open: dict[int, T] = {}
        self._last = 0

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[T]:
        return iter(list(self._open.values()))

    def next_number(self) -> int:
        """Give the number that the next call of our own should take."""
        return self._last + 1

    def open(self, call: int, item: T) -> None:
        """Enter a call.

        Raises:
            RemoteProtocolError: If the number was used before.
        """
        if call <= self._last:
            raise RemoteProtocolError(f"call {call} was opened before")
        self._last = call
        self._open[call] = item

    def get(self, call: int) -> T | None:
        """Find an open call; None if it is closed already.

        Raises:
            RemoteProtocolError: If there never was such a call.
        """
        item = self._open.get(call)
        if item is None and not 0 < call <= self._last:
            raise RemoteProtocolError(f"there never was a call {call}")
        return item

    def is_open(self, call: int) -> bool:
        """Tell if a call is open."""
        return call in self._open

    def replace(self, call: int, item: T) -> None:
        """Give an open call another item."""
        self._open[call] = item

    def close(self, call: int) -> T | None:
        """Take a call out; None if it was closed already."""
        return self._open.pop(call, None)
