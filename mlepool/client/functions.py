"""Functions on many workers: each on one that has a free process for it."""

from __future__ import annotations

import asyncio
import base64
import concurrent.futures
import importlib
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, NamedTuple

from mlepool.client.connection import AsyncConnection
from mlepool.errors import ClientError, ConnectionClosedError, MlepoolError

__all__ = ["Lanes", "Work", "pack"]

COMMAND = "functions.call"
INLINE = 256 * 1024  # bytes; a longer call goes as input, with back-pressure
OFFER = "start its worker with --commands mlepool.worker.functions"


class Work(NamedTuple):
    """A call that waits for a worker.

    Attributes:
        future: Who called.
        call: What to call, pickled.
    """

    future: concurrent.futures.Future[Any]
    call: bytes


def pack(function: Callable[..., Any], args: Any, keywords: Any) -> bytes:
    """Pickle a call.

    Raises:
        ClientError: If cloudpickle is not installed.
        Exception: What pickling raises.
    """
    data: bytes = _cloudpickle().dumps((function, args, keywords))
    return data


class Lanes:
    """Calls functions on workers, on each as many at once as it has lanes.

    All of it is for the event loop's thread.

    Args:
        connections: The ways to them; those without a link are connected.
        slots: Lanes of each; None for as many as its host has processors.
        tell: Is told of each line that a function prints, with the host's name.
    """

    def __init__(
        self,
        connections: Iterable[AsyncConnection],
        *,
        slots: int | None,
        tell: Callable[[str, Any], None] | None,
    ) -> None:
        self._connections = list(connections)
        self._slots = slots
        self._tell = tell
        self._waiting: deque[Work] = deque()
        self._free: dict[AsyncConnection, int] = {}
        self._opening: asyncio.Task[None] | None = None
        self._has_opened = False
        self._problems: list[MlepoolError] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, work: Work) -> None:
        """Have something called, as soon as there is a lane."""
        self._waiting.append(work)
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
        self._pump()

    def drop_waiting(self) -> None:
        """Cancel what has not begun."""
        while self._waiting:
            future = self._waiting.popleft().future
            future.cancel()
            future.set_running_or_notify_cancel()  # tells those who wait for it

    async def _open(self) -> None:
        async with asyncio.TaskGroup() as opening:
            for connection in self._connections:
                opening.create_task(self._reach(connection))
        self._has_opened = True
        self._fail_without_lanes()

    async def _reach(self, connection: AsyncConnection) -> None:
        try:
            if not connection.is_connected:
                await connection.connect()
            connection.find(COMMAND)
        except MlepoolError as exc:
            self._problems.append(exc)
        except AttributeError:
            problem = ClientError(f"{connection.name} calls no functions: {OFFER}")
            self._problems.append(problem)
        else:
            processors = connection.state.get("cpu", {}).get("threads")
            self._free[connection] = self._slots or processors or 1
            self._pump()

    def _pump(self) -> None:
        while self._waiting:
            free = max(self._free, key=lambda one: self._free[one], default=None)
            if free is None or not self._free[free]:
                break
            work = self._waiting.popleft()
            if work.future.set_running_or_notify_cancel():
                self._free[free] -= 1
                self._spawn(self._call(free, work))
        self._fail_without_lanes()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _fail_without_lanes(self) -> None:
        """Let nobody wait where nobody will ever come."""
        if self._free or not self._has_opened:
            return
        why = "; ".join(map(str, self._problems)) or "there is no host"
        while self._waiting:
            future = self._waiting.popleft().future
            if future.set_running_or_notify_cancel():
                future.set_exception(ClientError(f"no host calls functions: {why}"))

    async def _call(self, connection: AsyncConnection, work: Work) -> None:
        """Call one; the top of a task."""
        try:
            is_value, result = await self._answer(connection, work.call)
        except asyncio.CancelledError:
            work.future.set_exception(concurrent.futures.CancelledError())
            raise
        except Exception as exc:
            work.future.set_exception(exc)
            if isinstance(exc, ConnectionClosedError) or connection.is_closed:
                self._problems.append(ClientError(str(exc)))
                self._free.pop(connection, None)
        else:
            if is_value:
                work.future.set_result(result)
            else:
                work.future.set_exception(result)
        if connection in self._free:
            self._free[connection] += 1
        self._pump()

    async def _answer(self, connection: AsyncConnection, call: bytes) -> Any:
        command, keywords = connection.find(COMMAND), {"complete": False}
        given: dict[str, Any] = {"call": call}
        if len(call) > INLINE:
            given = {"input": base64.b64encode(call)}
        listener = await connection.call(command, (), {**keywords, **given})
        parts = []
        async for message in listener:
            if isinstance(message, bytes):
                parts.append(message)
            elif self._tell is not None:
                self._tell(connection.name, message)
        if listener.error is not None:
            raise listener.error
        return _cloudpickle().loads(b"".join(parts))


def _cloudpickle() -> Any:
    try:
        return importlib.import_module("cloudpickle")
    except ModuleNotFoundError as exc:
        raise ClientError(
            "functions need cloudpickle: pip install 'mlepool[functions]'"
        ) from exc
