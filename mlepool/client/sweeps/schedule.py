"""Who gets the next run: hosts with room, in turn. No I/O, no clock."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["Schedule", "slots_of"]


class Schedule:
    """The room that hosts have; asking for it takes the same time for any number.

    A host's room is what it may be given at once, begun or not.
    """

    def __init__(self) -> None:
        self._room: dict[str, int] = {}  # may fall below 0 where slots were taken away
        self._size: dict[str, int] = {}
        self._open: set[str] = set()
        self._free: dict[str, None] = {}  # with room, the one whose turn is next first

    def offer(self, host: str, size: int) -> None:
        """Say how much a host may hold; 0 while it takes nothing."""
        self._room[host] = self._room.get(host, 0) + size - self._size.get(host, 0)
        self._size[host] = size
        (self._open.add if size else self._open.discard)(host)
        self._look(host)

    @property
    def is_choice(self) -> bool:
        """True if several hosts take runs, full or not."""
        return len(self._open) > 1

    def size(self, host: str) -> int:
        """Give what was offered."""
        return self._size.get(host, 0)

    def take(self, *, other_than: str = "") -> str | None:
        """Take one of the free places; hosts take turns.

        Args:
            other_than: A host to pass over if there is another one.

        Returns:
            The host; None if all are full.
        """
        host = None
        for host in self._free:
            if host != other_than:
                break
        if host is not None:
            self.fill(host)
        return host

    def fill(self, host: str) -> None:
        """Take a place of a certain host, whether it has room or not."""
        self._room[host] = self._room.get(host, 0) - 1
        self._free.pop(host, None)  # to the end of the line
        self._look(host)

    def give_back(self, host: str) -> None:
        """Free a place."""
        self._room[host] += 1
        self._look(host)

    def _look(self, host: str) -> None:
        if self._room[host] > 0:
            self._free.setdefault(host)
        else:
            self._free.pop(host, None)


def slots_of(state: dict[str, Any], *, gpus: int, wanted: int | None) -> int:
    """Give how many runs a worker takes at once.

    Args:
        state: The worker's.
        gpus: How many each run needs.
        wanted: What the user said; None for what the worker offers: its
            ``max_concurrent``, and as many as its GPUs are enough for; 1 where it
            says neither.
    """
    has = state.get("gpu")
    for_gpus = math.inf if not gpus else len(has) // gpus if has else 0
    if wanted is not None:
        return int(min(wanted, for_gpus))
    slots = state.get("slots") or {}
    limit = slots.get("max")
    if limit is None:
        return 1 if for_gpus == math.inf else int(for_gpus)
    return int(min(limit, for_gpus))
