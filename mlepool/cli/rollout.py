"""Hosts in waves: who begins when, as a group of the library does it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from mlepool.client.groups.limits import Limits
from mlepool.client.groups.waves import State, Verdict, Waves

__all__ = ["Rollout", "Verdict"]


class Rollout:
    """Runs something on hosts, within limits.

    Args:
        names: The hosts, in the order in which they begin.
        limits: What to keep to.
    """

    def __init__(self, names: Sequence[str], limits: Limits) -> None:
        self._waves = Waves(names, limits)
        self._ended: asyncio.Queue[asyncio.Task[Verdict]] = asyncio.Queue()
        self._running: dict[asyncio.Task[Verdict], str] = {}

    @property
    def cause(self) -> str:
        """Why no more hosts begin; empty while they do."""
        return self._waves.cause

    def not_begun(self) -> list[str]:
        """Give the hosts that have not begun."""
        return self._waves.names(State.WAITING, State.SKIPPED)

    async def run(self, begin: Callable[[str], Awaitable[Verdict]]) -> None:
        """Run it on all that may begin; what ``begin`` raises ends all.

        Args:
            begin: Runs it on one host, to its end.
        """
        try:
            while True:
                for name in self._waves.next(self._now()).begin:
                    self._start(name, begin)
                if self._waves.is_over:
                    return
                await self._wait()
        finally:
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)

    def _start(self, name: str, begin: Callable[[str], Awaitable[Verdict]]) -> None:
        task = asyncio.ensure_future(begin(name))
        self._running[task] = name
        task.add_done_callback(self._ended.put_nowait)

    async def _wait(self) -> None:
        """Wait until a host has ended, or is to be tried again."""
        try:
            async with asyncio.timeout_at(self._waves.next_time()):
                task = await self._ended.get()
        except TimeoutError:
            return
        name = self._running.pop(task)
        self._waves.ended(name, task.result(), now=self._now())

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
