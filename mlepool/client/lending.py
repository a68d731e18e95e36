"""An event loop whose place another thread may take while it sleeps.

What is handed to a loop's thread waits until that has woken up, if only to send a few
bytes. Who waits for the answer does so itself meanwhile.
"""

from __future__ import annotations

import asyncio
import contextvars
import importlib
import selectors
import signal
import threading
from collections.abc import Callable
from typing import Any, TypeVarTuple

__all__ = ["LendingLoop"]

Ts = TypeVarTuple("Ts")

# What signal wraps: it makes enums of numbers, and takes ten times as long for that.
_signal = importlib.import_module("_signal")

CTRL_C = int(signal.SIGINT)
OTHERS = tuple(int(one) for one in signal.valid_signals() if one != CTRL_C)


class LendingLoop(asyncio.SelectorEventLoop):
    """An event loop that others may act for, as long as it waits for something."""

    def __init__(self) -> None:
        self._rest = _Rest()
        super().__init__(self._rest)
        self.borrower = 0  # the id of the thread that acts for it; 0 for none

    def do_now(self, function: Callable[[], object]) -> bool:
        """Call a function in the loop's place, if the loop has nothing to do.

        It may do what is done in the loop, but it must not wait. No signal breaks in:
        where the program handles some, besides Ctrl-C, its main thread borrows no loop.

        Returns:
            False if it was not called.

        Raises:
            KeyboardInterrupt: On Ctrl-C, before or after the call.
        """
        if not self._rest.is_on or self.get_debug():
            return False
        if threading.current_thread() is threading.main_thread():
            return self._do_unbroken(function)
        return self._do(function)

    def call_soon(
        self,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        """Have something called soon; also for who acts for the loop (asyncio)."""
        self._rest.has_news = True
        return super().call_soon(callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Have something called in time; also for who acts for the loop (asyncio)."""
        self._rest.has_news = True
        return super().call_at(when, callback, *args, context=context)

    def _do_unbroken(self, function: Callable[[], object]) -> bool:
        """Call it in the main thread, where signals are handled."""
        if any(map(callable, map(_signal.getsignal, OTHERS))):
            return False
        handler = _signal.getsignal(CTRL_C)
        if not callable(handler):
            return self._do(function)
        if handler is not signal.default_int_handler:
            return False
        missed: list[Any] = []
        _signal.signal(CTRL_C, lambda *args: missed.append(args))
        try:
            return self._do(function)
        finally:
            _signal.signal(CTRL_C, handler)
            if missed:
                handler(*missed[0])

    def _do(self, function: Callable[[], object]) -> bool:
        rest = self._rest
        if not rest.turn.acquire(blocking=False):
            return False
        outer = asyncio._get_running_loop()  # a notebook's
        rest.has_news = False
        self.borrower = threading.get_ident()
        asyncio._set_running_loop(self)
        try:
            function()
        finally:
            asyncio._set_running_loop(outer)
            self.borrower = 0
            if rest.has_news:
                self.call_soon_threadsafe(_look)
            rest.turn.release()
        return True


class _Rest(selectors.DefaultSelector):
    """What the loop sleeps in.

    Attributes:
        is_on: True while it sleeps.
        turn: Held by who may touch what is the loop's: its thread, or who borrows it.
        has_news: True once the loop was given what it has to wake up for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.is_on = self.has_news = False
        self.turn = threading.Lock()
        self.turn.acquire()

    def select(
        self, timeout: float | None = None
    ) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait."""
        if timeout is not None and timeout <= 0:
            return super().select(timeout)
        self.turn.release()
        self.is_on = True
        try:
            return super().select(timeout)
        finally:
            self.is_on = False  # said first: nobody else is to begin now
            self.turn.acquire()

    def register(
        self, fileobj: Any, events: int, data: Any = None
    ) -> selectors.SelectorKey:
        """Wait for one more; not each system notes that while it waits."""
        self.has_news = True
        return super().register(fileobj, events, data)

    def modify(
        self, fileobj: Any, events: int, data: Any = None
    ) -> selectors.SelectorKey:
        """Wait for something else."""
        self.has_news = True
        return super().modify(fileobj, events, data)


def _look() -> None:
    """Nothing: the loop was only to wake up."""
