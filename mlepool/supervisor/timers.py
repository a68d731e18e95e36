"""Callbacks that are due at a time, some of them by name."""

import heapq
import itertools
import time
from collections.abc import Callable

__all__ = ["Timers"]


class Timers:
    """What is to be done later, by the clock that never goes back."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, str, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._latest: dict[str, int] = {}

    def after(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call something after a while."""
        self._push(seconds, "", callback)

    def set(self, name: str, seconds: float, callback: Callable[[], None]) -> None:
        """Call something after a while, in place of what had this name."""
        self._latest[name] = self._push(seconds, name, callback)

    def cancel(self, name: str) -> bool:
        """Forget what has a name; False if nothing has."""
        return self._latest.pop(name, None) is not None

    def wait(self) -> float | None:
        """Give the seconds until something is due; None for nothing."""
        self._drop_cancelled()
        return max(0.0, self._heap[0][0] - time.monotonic()) if self._heap else None

    def run(self) -> None:
        """Call what is due."""
        if not self._heap:
            return
        now = time.monotonic()
        while self._heap and self._heap[0][0] <= now:
            _, number, name, callback = heapq.heappop(self._heap)
            if not name or self._latest.get(name) == number:
                self._latest.pop(name, None)
                callback()

    def _push(self, seconds: float, name: str, callback: Callable[[], None]) -> int:
        number = next(self._numbers)
        item = (time.monotonic() + seconds, number, name, callback)
        heapq.heappush(self._heap, item)
        return number

    def _drop_cancelled(self) -> None:
        while self._heap:
            _, number, name, _ = self._heap[0]
            if not name or self._latest.get(name) == number:
                return
            heapq.heappop(self._heap)
