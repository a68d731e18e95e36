"""What was used of late, up to some size of it all."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

__all__ = ["Recent"]

V = TypeVar("V")


class Recent(Generic[V]):
    """Values by key; those not used for longest go first.

    Args:
        limit: What all may have together, in whatever unit :meth:`put` is told.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._values: OrderedDict[Hashable, tuple[V, int]] = OrderedDict()

    def get(self, key: Hashable) -> V | None:
        """Give a value; None if it is not there any more."""
        found = self._values.get(key)
        if found is None:
            return None
        self._values.move_to_end(key)
        return found[0]

    def put(self, key: Hashable, value: V, *, size: int = 1) -> None:
        """Keep a value for a while; not at all if it is larger than the limit."""
        self.drop(key)
        if size > self._limit:
            return
        self._values[key] = value, size
        self._size += size
        while self._size > self._limit:
            _, (_, gone) = self._values.popitem(last=False)
            self._size -= gone

    def drop(self, key: Hashable) -> None:
        """Forget a value; none is fine."""
        found = self._values.pop(key, None)
        if found is not None:
            self._size -= found[1]

    def clear(self) -> None:
        """Forget all."""
        self._values.clear()
        self._size = 0
