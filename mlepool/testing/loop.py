"""An event loop whose clock jumps: a minute of waiting takes no time.

For code whose only input is in the same loop: links in memory, timers, tasks. Not for
threads, sockets or processes: their events would come too late for the clock.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

__all__ = ["JumpingLoop", "run"]

T = TypeVar("T")


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop that skips the time in which nothing happens.

    Its clock begins at 0.0 and moves only when nothing is left to do: at once to the
    next timer, so ``asyncio.sleep``, ``timeout`` and ``call_later`` all obey it. Where
    a real loop would wait for ever it raises RuntimeError.
    """

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Give the time on the jumping clock, in seconds."""
        return self._jumping.skipped


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in a :class:`JumpingLoop` of its own.

    Raises:
        RuntimeError: If it can't come to an end.
    """
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(main)


class _JumpingSelector(selectors.BaseSelector):
    """Looks for what is ready, and skips the time instead of waiting for it."""

    def __init__(self) -> None:
        self.skipped = 0.0
        self._real = selectors.DefaultSelector()

    def select(
        self, timeout: float | None = None
    ) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._real.select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("deadlock: every task waits and no timer is set")
            self.skipped += max(0.0, timeout)
        return ready

    def register(
        self, fileobj: FileDescriptorLike, events: int, data: Any = None
    ) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def get_map(self) -> Mapping[FileDescriptorLike, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()
