"""Steps of coroutines: measured, and not changed by it."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

import pytest

from mlepool.worker.steps import in_steps


def run(work: Coroutine[Any, Any, Any]) -> tuple[Any, list[float]]:
    steps: list[float] = []
    return asyncio.run(in_steps(work, steps.append)), steps


def test_each_step_is_measured_and_the_value_comes_back():
    async def work() -> str:
        time.sleep(0.05)  # noqa: ASYNC251
        await asyncio.sleep(0)
        await asyncio.sleep(0.001)
        return "done"

    value, steps = run(work())
    assert (value, len(steps)) == ("done", 3)
    assert steps[0] >= 0.05


def test_exceptions_go_both_ways():
    async def work() -> str:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(10)
        except TimeoutError:
            return "out of time"
        return "never"

    assert run(work())[0] == "out of time"

    async def fail() -> None:
        await asyncio.sleep(0)
        raise KeyError("x")

    with pytest.raises(KeyError):
        run(fail())


def test_a_cancellation_is_the_coroutines_own():
    async def main() -> None:
        async def work() -> str:
            try:
                await asyncio.sleep(10)
            except asyncio.CancelledError:
                return "kept"
            return "never"

        task = asyncio.ensure_future(in_steps(work(), lambda _: None))
        await asyncio.sleep(0)
        task.cancel()
        assert await task == "kept"

    asyncio.run(main())
