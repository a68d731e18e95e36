"""Long calculations aside: an event loop goes on beside them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

__all__ = ["FEW", "aside"]

T = TypeVar("T")

FEW = 5000  # entries of a tree that are dealt with in some milliseconds


async def aside(count: int, work: Callable[[], T]) -> T:
    """Calculate something, in a thread if it takes long.

    Args:
        count: How many entries it is about.
        work: Calculates it; it must share nothing with others meanwhile.
    """
    if count <= FEW:
        return work()
    return await asyncio.to_thread(work)
