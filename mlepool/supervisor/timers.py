"""Callbacks that are due at a time, some of them by name."""

import heapq
import itertools
import time
from collections.abc import Callable

__all__ = ["Timers"]

MAX_STALE = 64  # cancelled ones may wait for their time: a deadline may be days away

_Item = tuple[float, int, str, Callable[[], None]]


class Timers:
    """What is to be done later, by the clock that never goes back."""

    def __init__(self) -> None:
        self._heap: list[_Item] = []
        self._numbers = itertools.count()
        self._latest: dict[str, int] = {}
        self._stale = 0  # cancelled since the heap was last cleared

    def after(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call something after a while."""
        self._push(seconds, "", callback)

    def set(self, name: str, seconds: float, callback: Callable[[], None]) -> None:
        """Call something after a while, in place of what had this name."""
        self.cancel(name)
        self._latest[name] = self._push(seconds, name, callback)

    def is_set(self, name: str) -> bool:
        """Tell if something has this name."""
        return name in self._latest

    def cancel(self, name: str) -> bool:
        """Forget what has a name; False if nothing has."""
        if self._latest.pop(name, None) is None:
            return False
        self._stale += 1
        if self._stale > MAX_STALE and self._stale > len(self._heap) // 2:
            self._clear()
        return True

    def wait(self) -> float | None:
        """Give the seconds until something is due; None for nothing."""
        if not self._heap:
            return None
        self._drop_cancelled()
        return max(0.0, self._heap[0][0] - time.monotonic()) if self._heap else None

    def run(self) -> None:
        """Call what is due."""
        if not self._heap:
            return
        now = time.monotonic()
        while self._heap and self._heap[0][0] <= now:
            item = heapq.heappop(self._heap)
            if self._is_live(item):
                self._latest.pop(item[2], None)
                item[3]()

    def _push(self, seconds: float, name: str, callback: Callable[[], None]) -> int:
        number = next(self._numbers)
        item = (time.monotonic() + seconds, number, name, callback)
        heapq.heappush(self._heap, item)
        return number

    def _drop_cancelled(self) -> None:
        while self._heap and not self._is_live(self._heap[0]):
            heapq.heappop(self._heap)

    def _clear(self) -> None:
        """Let go of all that was cancelled, and of what it holds."""
        self._heap = [item for item in self._heap if self._is_live(item)]
        heapq.heapify(self._heap)
        self._stale = 0

    def _is_live(self, item: _Item) -> bool:
        _, number, name, _ = item
        return not name or self._latest.get(name) == number
