"""Blocking calls, each in a thread of its own: one that hangs holds up nobody."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable
from typing import TypeVar

__all__ = ["Threads", "in_thread"]

T = TypeVar("T")

MAX_THREADS = 64  # of one client; each has a stack, and its disk may never answer


class Threads:
    """One client's threads: so many at a time, the next ones wait for their turn."""

    def __init__(self, most: int = MAX_THREADS) -> None:
        self._free = asyncio.Semaphore(most)

    async def call(self, call: Callable[[], T]) -> T:
        """Call something in a new thread, as :func:`in_thread`."""
        await self._free.acquire()
        return await in_thread(call, ended=self._free.release)


async def in_thread(
    call: Callable[[], T],
    *,
    name: str = "mlepool call",
    ended: Callable[[], None] = lambda: None,
) -> T:
    """Call something in a new thread, and wait for it.

    The thread does not keep the process alive. Cancelled, only the wait ends.

    Args:
        call: What to call.
        name: The thread's.
        ended: Called in the loop when the thread has ended, waited for or not.
    """
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()
    context = contextvars.copy_context()

    def tell(value: T | None, error: BaseException | None) -> None:
        ended()
        if result.done():
            return
        if error is None:
            result.set_result(value)  # type: ignore[arg-type]
        else:
            result.set_exception(error)

    def work() -> None:
        value, error = None, None
        try:
            value = context.run(call)
        except BaseException as exc:
            # The top of a thread: who waits gets it.
            error = exc
            if isinstance(exc, StopIteration):  # no future can hold that
                error = RuntimeError(f"StopIteration: {exc}")
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(tell, value, error)

    threading.Thread(target=work, name=name, daemon=True).start()
    return await result
