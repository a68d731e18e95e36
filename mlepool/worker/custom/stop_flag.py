"""The flag that tells a command inside the worker to stop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator

__all__ = ["StopFlag"]


class StopFlag:
    """True once the command is to stop: ``ctx.stopped``.

    A plain function looks at it (``if ctx.stopped: return``) or sleeps with it
    (``ctx.stopped.wait(5)``); an async one awaits it.

    Args:
        loop: The event loop that runs here: nobody may block there.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._loop_thread = threading.get_ident()
        self._event = threading.Event()
        self._waiters: list[asyncio.Future[None]] = []

    def __bool__(self) -> bool:
        return self._event.is_set()

    def __await__(self) -> Generator[None, None, None]:
        """Wait until it is set; on the worker's event loop."""
        if not self._event.is_set():
            future: asyncio.Future[None] = self._loop.create_future()
            self._waiters.append(future)
            yield from future

    def __repr__(self) -> str:
        return f"<stopped: {bool(self)}>"

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, in this thread.

        Args:
            timeout: Seconds to wait at most; None for any time.

        Returns:
            True if it is set.

        Raises:
            RuntimeError: In an async function, which is to ``await ctx.stopped``.
        """
        if threading.get_ident() == self._loop_thread:
            raise RuntimeError("in an async function: await ctx.stopped")
        return self._event.wait(timeout)

    def set(self) -> None:
        """Set it, on the worker's event loop. Twice is fine."""
        self._event.set()
        for future in self._waiters:
            if not future.done():
                future.set_result(None)
        self._waiters.clear()
