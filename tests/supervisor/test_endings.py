"""Ends of jobs: told first, put away after that; a power loss is waited for."""

from types import SimpleNamespace
from typing import Any

import pytest

from mlepool.supervisor.chores import Chores
from mlepool.supervisor.endings import Endings
from mlepool.supervisor.timers import Timers
from mlepool.wire.messages import Outcome

JOURNAL = 5  # a descriptor, by its number


class Noted:
    """A ledger, a syncer and a worker's line: what they are asked for, in order."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def leave(self, job_id: str) -> None:
        self.events.append(f"{job_id} has left")

    def add(self, fd: int, then: Any = None) -> None:
        self.events.append(f"{fd} is to be safe")
        if then is not None:
            then()

    def send(self, message: Any) -> None:
        self.events.append(f"{message.id} was told")


def ended_job() -> Any:
    recorder = SimpleNamespace(
        is_saved=True, take_fresh=lambda: b"", release=lambda: JOURNAL
    )
    return SimpleNamespace(id="job", outcome=Outcome("SUCCEEDED"), recorder=recorder)


@pytest.mark.parametrize(
    ("durability", "in_the_turn", "after_it"),
    [
        ("process", ["job was told"], ["job has left", "5 is to be safe"]),
        ("power", ["job has left", "5 is to be safe", "job was told"], []),
    ],
)
def test_who_waits_is_told_as_soon_as_may_be(durability, in_the_turn, after_it):
    noted, job, chores = Noted(), ended_job(), Chores()
    jobs = {"job": job}
    endings = Endings(
        *(jobs, Timers()),
        chores=chores,
        syncer=noted,  # type: ignore[arg-type]
        ledger=noted,  # type: ignore[arg-type]
        send=noted.send,
    )
    endings.announce(job, durability=durability)
    assert (noted.events, jobs) == (in_the_turn, {})
    chores.run()
    assert noted.events == in_the_turn + after_it
