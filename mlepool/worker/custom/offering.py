"""Offers a worker's custom commands to its clients, and what has changed of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from mlepool.wire.messages import Event
from mlepool.worker.custom.command import CustomCommand
from mlepool.worker.custom.extensions import Extensions
from mlepool.worker.custom.loading import find_sources
from mlepool.worker.custom.reload import look_at, watch
from mlepool.worker.registry import Registry
from mlepool.worker.state import StateBoard

__all__ = ["Offering"]

CLOSE_LIMIT = 2.0  # seconds for the watch of files to end


class Offering:
    """The custom commands that a worker offers.

    The worker's state says which capabilities there are, and what could not be loaded.

    Args:
        wanted: Where they come from; see
            :func:`~mlepool.worker.custom.loading.find_sources`.
        root: What relative paths count from.
        registry: Where commands are found.
        board: The worker's state.
        tell: Tells all clients.
    """

    def __init__(
        self,
        wanted: Iterable[Any],
        *,
        root: Path,
        registry: Registry,
        board: StateBoard,
        tell: Callable[[Event], None],
    ) -> None:
        self._registry = registry
        self._board = board
        self._tell = tell
        self._watching: asyncio.Task[None] | None = None
        self._extensions = Extensions(
            find_sources(wanted, root=root),
            builtin=registry.builtin,
            changed=self._changed,
        )

    async def open(self, *, is_watched: bool) -> None:
        """Load them all.

        Args:
            is_watched: Load again what changes.
        """
        seen = look_at(self._extensions.sources)
        await self._extensions.load()
        if is_watched:
            work = watch(self._extensions, seen)
            self._watching = asyncio.get_running_loop().create_task(work)

    async def reload(self) -> list[str]:
        """Load them all anew; says what is wrong with any."""
        return await self._extensions.load()

    async def close(self) -> None:
        """Shut them down, within a bounded time."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching], timeout=CLOSE_LIMIT)
        await self._extensions.close()

    def _changed(self, commands: dict[str, CustomCommand], errors: list[str]) -> None:
        self._registry.offer(commands)
        names = {name.partition(".")[0] for name in commands if "." in name}
        self._board.update(capabilities=sorted(names), load_errors=errors)
        self._tell(Event("catalogue", msgspec.Raw(self._registry.packed().commands)))
