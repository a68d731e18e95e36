"""When it is dialled again, how often, and what ends it; in time that jumps."""

import asyncio

import pytest

from mlepool.client.links.redial import DIAL_LIMIT, MAX_PAUSE, Backoff, Redial
from mlepool.errors import (
    AuthenticationError,
    ConfigError,
    ConnectError,
    ConnectTimeoutError,
    LinkError,
    MlepoolError,
    UntrustedWorkerError,
    VersionError,
)
from tests.tools import in_jumping_time

REFUSED = ConnectError("gpu1", 9922, "refused")


class Dialler:
    """Fails as it is told to; notes when it was asked, and what became of it.

    Args:
        failures: What each attempt raises, the last one for ever; None lets it in, and
            a number is how many seconds it takes.
    """

    def __init__(self, *failures: Exception | float | None) -> None:
        self._failures = list(failures)
        self.times: list[float] = []
        self.failed: list[MlepoolError] = []

    async def enter(self) -> None:
        self.times.append(asyncio.get_running_loop().time())
        one = self._failures.pop(0) if len(self._failures) > 1 else self._failures[0]
        if isinstance(one, Exception):
            raise one
        if one is not None:
            await asyncio.sleep(one)

    def redial(self, *, limit: float | None = None) -> Redial:
        return Redial(
            self.enter,
            backoff=Backoff(),
            limit=limit,
            problem=LinkError("other", "cut"),
            failed=self.failed.append,
        )


def test_pauses_grow_are_random_and_bounded():
    backoff = Backoff()
    assert backoff.next_pause() == 0
    pauses = [backoff.next_pause() for _ in range(100)]
    assert max(pauses[:3]) <= 0.2
    assert 1 < max(pauses) <= MAX_PAUSE
    assert len(set(pauses)) > 90
    backoff.reset()
    assert backoff.next_pause() == 0


@in_jumping_time
async def test_it_goes_on_until_it_is_let_in():
    dialler = Dialler(REFUSED, ConnectTimeoutError("gpu1", 9922, "x"), REFUSED, None)
    began = asyncio.get_running_loop().time()
    await dialler.redial().wait()
    assert dialler.times[0] == began
    assert len(dialler.times) == 4
    assert not dialler.failed


@in_jumping_time
async def test_an_attempt_that_hangs_is_not_the_last():
    dialler = Dialler(3600.0, None)
    await dialler.redial().wait()
    assert DIAL_LIMIT <= dialler.times[1] - dialler.times[0] < DIAL_LIMIT + 1
    assert not dialler.failed


@in_jumping_time
@pytest.mark.parametrize("limit", [0.5, 100.0])
async def test_after_its_time_it_fails_with_the_last_problem(limit):
    dialler = Dialler(REFUSED)
    began = asyncio.get_running_loop().time()
    await dialler.redial(limit=limit).wait()
    assert dialler.failed == [REFUSED]
    assert asyncio.get_running_loop().time() - began == pytest.approx(limit)


@in_jumping_time
async def test_where_every_attempt_hangs_it_fails_with_why_there_is_no_link():
    dialler = Dialler(3600.0)
    await dialler.redial(limit=60.0).wait()
    assert str(dialler.failed[0]) == "cut"
    assert len(dialler.times) >= 5


@in_jumping_time
@pytest.mark.parametrize(
    "problem",
    [
        AuthenticationError("gpu1", 9922, "x"),
        UntrustedWorkerError("gpu1", 9922, "x"),
        VersionError("gpu1", 9922, "x"),
        ConfigError("known workers are damaged"),
    ],
)
async def test_what_would_not_help_is_not_tried_again(problem):
    dialler = Dialler(REFUSED, problem, None)
    await dialler.redial().wait()
    assert dialler.failed == [problem]
    assert len(dialler.times) == 2


@in_jumping_time
async def test_what_nobody_has_thought_of_ends_it_too(caplog):
    dialler = Dialler(RuntimeError("boo"), None)
    await dialler.redial().wait()
    assert "boo" in str(dialler.failed[0])
    assert "cannot dial again" in caplog.text


@in_jumping_time
async def test_who_waits_skips_a_pause():
    dialler = Dialler(*[REFUSED] * 12, None)
    redial = dialler.redial()
    while len(dialler.times) < 12:  # noqa: ASYNC110 - its clock jumps
        await asyncio.sleep(0.01)
    await asyncio.sleep(0)
    asked = asyncio.get_running_loop().time()
    await redial.wait()
    assert dialler.times[-1] == asked


@in_jumping_time
async def test_once_cancelled_it_tries_no_more_and_tells_nobody():
    dialler = Dialler(REFUSED)
    redial = dialler.redial()
    await asyncio.sleep(1)
    redial.cancel()
    await redial.wait()
    count = len(dialler.times)
    await asyncio.sleep(1000)
    assert len(dialler.times) == count
    assert not dialler.failed
