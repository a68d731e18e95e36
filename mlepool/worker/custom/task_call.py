"""Calls a custom command, of whatever kind its function is."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

from mlepool.worker.custom.stop_flag import StopFlag
from mlepool.worker.threads import in_thread

__all__ = ["TaskCall"]

TURN = 0.005  # seconds that an async generator yields in a row; then others get a turn


class TaskCall:
    """One call: a plain function in a thread of its own, an async one in the loop.

    What generators of both kinds yield is given on; they are closed at the first
    value after a stop.

    Args:
        work: The function, with its arguments.
        name: The command's, for threads.
        give: Takes a yielded value; False if nobody wants more.
        stopped: Set once it is to stop.
        check: Called first, in a thread; raises what forbids the call.

    Attributes:
        is_cancellable: True while it is a coroutine that runs in the loop.
        is_in_thread: True while a thread runs it.
    """

    def __init__(
        self,
        work: Callable[[], Any],
        *,
        name: str,
        is_async: bool,
        give: Callable[[Any], bool],
        stopped: StopFlag,
        check: Callable[[], object] | None = None,
    ) -> None:
        self._work = work
        self._name = name
        self._is_async = is_async
        self._give = give
        self._stopped = stopped
        self._check = check
        self._thread = 0
        self.is_cancellable = is_async
        self.is_in_thread = False

    async def run(self) -> Any:
        """Call it, and give what it returns."""
        result: Any
        if self._is_async:
            if self._check is not None:
                await in_thread(self._check, name=self._name)
            result = self._work()
        else:
            result = await in_thread(self._in_thread, name=self._name)
        if inspect.isasyncgen(result):
            self.is_cancellable = True
            return await self._drain_async(result)
        if inspect.isawaitable(result):
            self.is_cancellable = True
            return await result
        return result

    def where(self) -> str:
        """Say where in its code a thread is just now; empty if that is not known."""
        frame = sys._current_frames().get(self._thread)
        if frame is None or not self.is_in_thread:
            return ""
        code = frame.f_code
        return f"{code.co_filename}:{frame.f_lineno} in {code.co_name}()"

    def _in_thread(self) -> Any:
        self._thread, self.is_in_thread = threading.get_ident(), True
        try:
            if self._check is not None:
                self._check()
            result = self._work()
            return self._drain(result) if inspect.isgenerator(result) else result
        finally:
            self.is_in_thread = False

    def _drain(self, values: Generator[Any, Any, Any]) -> Any:
        with contextlib.closing(values):
            while True:
                try:
                    value = next(values)
                except StopIteration as end:
                    return end.value
                if not self._give(value) or self._stopped:
                    return None

    async def _drain_async(self, values: AsyncGenerator[Any, Any]) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with contextlib.aclosing(values):
            async for value in values:
                if not self._give(value) or self._stopped:
                    return
                if loop.time() - began > TURN:
                    await asyncio.sleep(0)
                    began = loop.time()
