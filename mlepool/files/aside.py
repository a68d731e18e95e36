"""Work aside: an event loop goes on beside long calculations, and after its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

__all__ = ["FEW", "aside", "log_failure"]

T = TypeVar("T")

logger = logging.getLogger("mlepool.files")

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


def log_failure(work: Future[None]) -> None:
    """Tell of what went wrong when nobody waited for it."""
    exc = work.exception()
    if exc is not None:
        logger.error("a tree could not be let go of", exc_info=exc)
