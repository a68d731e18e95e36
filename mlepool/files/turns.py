"""Who goes before whom: threads that wait until others are done with something."""

from __future__ import annotations

import threading
from types import TracebackType

__all__ = ["Turn"]


class Turn:
    """Something that threads are at, within ``with``, and that others wait out."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._count = 0

    def begin(self) -> None:
        """Be at it; others may be, too."""
        with self._change:
            self._count += 1

    def end(self) -> None:
        """Be done with it."""
        with self._change:
            self._count -= 1
            self._change.notify_all()

    def wait_out(self, limit: float) -> bool:
        """Wait until nobody is at it.

        Args:
            limit: Seconds after which to go on all the same.

        Returns:
            False if somebody still is.
        """
        with self._change:
            return self._change.wait_for(lambda: not self._count, limit)

    def __enter__(self) -> None:
        self.begin()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end()
