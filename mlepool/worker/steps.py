"""Measures the steps of a coroutine: how long each has the event loop to itself."""

from __future__ import annotations

import time
import types
from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeVar, cast

__all__ = ["in_steps"]

T = TypeVar("T")


async def in_steps(work: Awaitable[T], took: Callable[[float], None]) -> T:
    """Await something, and tell how long each of its steps took.

    Args:
        work: What is awaited.
        took: Called after each step, with its seconds.
    """
    return cast(T, await _steps(work, took))


@types.coroutine
def _steps(
    work: Awaitable[Any], took: Callable[[float], None]
) -> Generator[Any, Any, Any]:
    steps = work.__await__()
    go_on: Callable[[Any], Any] = steps.send
    given: Any = None
    while True:
        began = time.perf_counter()
        try:
            waits_for = go_on(given)
        except StopIteration as end:
            return end.value
        finally:
            took(time.perf_counter() - began)
        try:
            go_on, given = steps.send, (yield waits_for)
        except BaseException as exc:
            # A cancellation, for example: it is the coroutine's to act upon.
            go_on, given = steps.throw, exc
