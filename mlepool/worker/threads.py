"""Blocking calls, each in a thread of its own: one that hangs holds up nobody."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import TypeVar

__all__ = ["in_thread"]

T = TypeVar("T")


async def in_thread(call: Callable[[], T], *, name: str = "mlepool call") -> T:
    """Call something in a new thread, and wait for it.

    The thread does not keep the process alive. Cancelled, only the wait ends.
    """
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()
    context = contextvars.copy_context()

    def tell(value: T | None, error: BaseException | None) -> None:
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
        if not loop.is_closed():
            loop.call_soon_threadsafe(tell, value, error)

    threading.Thread(target=work, name=name, daemon=True).start()
    return await result
