"""Threads that start processes side by side.

Who starts a process waits until it has its program. On a busy machine that is most of
the time that a start takes, and it can be waited for several times at once.
"""

from __future__ import annotations

import ctypes
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

__all__ = ["HELPERS", "Starters"]

HELPERS = 2  # threads beside the caller's: three starts at once fill two processors
CLONE_FS = 0x200  # unshare(2): a working directory of the thread's own

T = TypeVar("T")


class _Batch(Generic[T]):
    """What is to be done at once, and what came of it."""

    def __init__(self, starts: Sequence[Callable[[], T]]) -> None:
        self.waiting = deque(enumerate(starts))
        self.made: dict[int, T | Exception] = {}

    def work(self) -> None:
        """Do one after the other, until none is left."""
        while True:
            try:
                number, start = self.waiting.popleft()
            except IndexError:
                return
            self.made[number] = _result(start)


class Starters:
    """Calls what starts processes, several at once. Threads are made when needed."""

    def __init__(self) -> None:
        self._batches: queue.SimpleQueue[_Batch[Any]] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._is_able: bool | None = None

    @property
    def is_able(self) -> bool:
        """False if they can't: threads have no working directories of their own here.

        Then :meth:`call` does one after the other.
        """
        if self._is_able is None:
            for _ in range(HELPERS):
                threading.Thread(target=self._help, name="start", daemon=True).start()
            self._is_able = all([self._done.get() for _ in range(HELPERS)])
        return self._is_able

    def call(self, starts: Sequence[Callable[[], T]]) -> list[T | Exception]:
        """Call functions, in any order; each may change the working directory.

        Returns:
            What each has given, or raised.
        """
        if len(starts) == 1:
            return [_result(starts[0])]
        batch = _Batch(starts)
        helpers = max(0, min(HELPERS, len(starts) - 1)) if self.is_able else 0
        for _ in range(helpers):
            self._batches.put(batch)
        batch.work()
        for _ in range(helpers):
            self._done.get()
        return [batch.made[number] for number in range(len(starts))]

    def _help(self) -> None:
        is_able = _leave_working_directory()
        self._done.put(is_able)
        while is_able:
            self._batches.get().work()
            self._done.put(True)


def _result(start: Callable[[], T]) -> T | Exception:
    try:
        return start()
    except Exception as exc:
        # The top of a start: whatever it was, who has asked for it is told.
        return exc


def _leave_working_directory() -> bool:
    """Give this thread a working directory of its own; False where that can't be."""
    try:
        return bool(ctypes.CDLL(None).unshare(CLONE_FS) == 0)
    except (OSError, AttributeError):
        return False
