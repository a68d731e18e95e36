"""Ctrl-C as something to wait for; requests to end as the end."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from types import FrameType, TracebackType
from typing import Any, Self, TypeVar

from mlepool.cli.exits import SIGNAL_BASE

__all__ = ["Interrupts"]

T = TypeVar("T")


class Interrupts:
    """Takes signals while its ``with`` block runs, in the loop's own thread.

    A Ctrl-C ends :meth:`unless_pressed`. One that comes while the loop is stuck in a
    write, because nobody reads what we print, is a KeyboardInterrupt as usual.
    SIGTERM and SIGHUP raise SystemExit at once, with 128 + n. A signal that is
    ignored when the block begins (``nohup``, ``&``) stays so.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._presses = asyncio.Semaphore(0)
        self._untaken = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._install(signal.SIGINT, self._pressed)
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            if number is not None:
                self._install(number, _end)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    async def unless_pressed(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Do some work; at Ctrl-C cancel it and give None."""
        task = asyncio.ensure_future(work)
        pressed = asyncio.ensure_future(self._presses.acquire())
        try:
            await asyncio.wait((task, pressed), return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            task.cancel()
            pressed.cancel()
            await asyncio.wait((task, pressed))

    def _install(self, number: int, handler: Any) -> None:
        before = signal.getsignal(number)
        if before is not signal.SIG_IGN:
            self._before[number] = before
            signal.signal(number, handler)

    def _pressed(self, number: int, frame: FrameType | None) -> None:
        self._untaken += 1
        if self._untaken > 1:
            raise KeyboardInterrupt
        self._loop.call_soon_threadsafe(self._take)

    def _take(self) -> None:
        self._untaken = 0
        self._presses.release()


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(SIGNAL_BASE + number)
