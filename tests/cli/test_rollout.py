"""Hosts in waves: who runs beside whom, and what ends all."""

import asyncio

import pytest

from mlepool.cli.rollout import Rollout, Verdict
from mlepool.client.groups.limits import Limits
from mlepool.testing.loop import run

NAMES = [f"gpu{number}" for number in range(1, 8)]


class Hosts:
    """Hosts that take some time; those that are named fail."""

    def __init__(self, *bad: str) -> None:
        self.bad = bad
        self.begun: list[str] = []
        self.running = 0
        self.most = 0

    async def begin(self, name: str) -> Verdict:
        self.begun.append(name)
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(1.0 if name in self.bad else 2.0)
        self.running -= 1
        return Verdict.AGAIN if name in self.bad else Verdict.GOOD


def roll(hosts: Hosts, limits: Limits) -> Rollout:
    async def main() -> Rollout:
        rollout = Rollout(NAMES, limits)
        await rollout.run(hosts.begin)
        return rollout

    return run(main())


def test_no_more_run_at_once_than_may():
    hosts = Hosts()
    assert roll(hosts, Limits(max_parallel=3)).not_begun() == []
    assert (hosts.begun, hosts.most) == (NAMES, 3)


def test_waves_follow_each_other():
    hosts = Hosts()
    roll(hosts, Limits(batch=(1, 4)))
    assert (hosts.begun, hosts.most) == (NAMES, 4)


def test_a_host_that_fails_is_tried_again_and_ends_the_rest_if_it_may_not_fail():
    hosts = Hosts("gpu2")
    rollout = roll(hosts, Limits(batch=(2,), max_failures=0, retries=2))
    assert hosts.begun == ["gpu1", "gpu2", "gpu2", "gpu2"]
    assert rollout.not_begun() == NAMES[2:]
    assert rollout.cause == "1 of 7 hosts had failed"


def test_what_is_raised_ends_all_that_run():
    hosts = Hosts()

    async def begin(name: str) -> Verdict:
        if name == "gpu3":
            raise BrokenPipeError
        return await hosts.begin(name)

    async def main() -> list[str]:
        rollout = Rollout(NAMES, Limits(max_parallel=3))
        with pytest.raises(BrokenPipeError):
            await rollout.run(begin)
        names = [one.get_name() for one in asyncio.all_tasks()]
        assert len(names) == 1  # nobody but this one
        return rollout.not_begun()

    assert run(main()) == NAMES[3:]
