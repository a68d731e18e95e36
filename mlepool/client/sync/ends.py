"""Waiting in a thread for the end of a command that runs in the loop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from mlepool.client.listening.listener import AsyncListener

__all__ = ["End"]

T = TypeVar("T")


class End(Generic[T]):
    """The end of a command, for the thread that calls it.

    There is no task: its steps would each wait for a turn of the loop, and most
    commands are over before the loop has had as many.

    Args:
        begin: Calls the command, in the loop's thread.
        give_up: Called with its listener there if nobody waits any more.
        wrap: Makes of its listener what the caller gets; called while the worker is
            busy with it.
    """

    def __init__(
        self,
        begin: Callable[[], AsyncListener],
        give_up: Callable[[AsyncListener], None],
        *,
        wrap: Callable[[AsyncListener], T],
    ) -> None:
        self._begin = begin
        self._give_up = give_up
        self._wrap = wrap
        self._wrapped: T
        self._listener: AsyncListener | None = None
        self._error: Exception | None = None
        self._is_watching = False
        self._done = threading.Lock()
        self._done.acquire()

    def start(self) -> None:
        """Call it."""
        try:
            listener = self._listener = self._begin()
        except Exception as exc:
            # The top of what the caller asked for: it gets the error.
            self._error = exc
            self._done.release()
            return
        self._wrapped = self._wrap(listener)
        self._is_watching = True
        listener.intake.begin_drain()
        listener.intake.watch(self._look)
        self._look()

    def cancel(self) -> None:
        """Wait no more; what was not sent yet is never run."""
        if self._listener is not None:
            self._stop(self._listener)
            self._give_up(self._listener)

    def wait(self, lock_timeout: float) -> bool:
        """Wait for it."""
        return self._done.acquire(timeout=lock_timeout)

    def result(self) -> T:
        """Give what was made of its listener.

        Raises:
            Exception: What calling it, or :meth:`AsyncListener.wait`, raises.
        """
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None  # it would hold its own frames
        return self._wrapped

    def _look(self) -> None:
        """Let the caller go on if that is all."""
        listener = self._listener
        assert listener is not None
        try:
            if not listener.end_seen():
                return
        except Exception as exc:
            self._error = exc
        self._stop(listener)
        self._done.release()

    def _stop(self, listener: AsyncListener) -> None:
        if self._is_watching:
            self._is_watching = False
            listener.intake.unwatch(self._look)
            listener.intake.end_drain()
