"""Who gets the next run."""

from typing import Any

import pytest

from mlepool.client.sweeps.schedule import Schedule, slots_of


def test_hosts_with_room_take_turns():
    schedule = Schedule()
    schedule.offer("a", 2)
    schedule.offer("b", 1)
    assert [schedule.take() for _ in range(4)] == ["a", "b", "a", None]
    schedule.give_back("b")
    assert schedule.take() == "b"


def test_another_host_is_preferred_where_there_is_one():
    schedule = Schedule()
    schedule.offer("a", 1)
    schedule.offer("b", 1)
    assert schedule.take(other_than="a") == "b"
    assert schedule.take(other_than="a") == "a"
    assert schedule.is_choice
    schedule.offer("b", 0)
    assert not schedule.is_choice


def test_a_host_whose_slots_were_taken_away_first_ends_what_it_has():
    schedule = Schedule()
    schedule.offer("a", 3)
    for _ in range(3):
        schedule.take()
    schedule.offer("a", 1)
    for wanted in (None, None, "a"):
        schedule.give_back("a")
        assert schedule.take() == wanted


def test_what_a_host_has_from_before_takes_room():
    schedule = Schedule()
    schedule.fill("a")
    schedule.offer("a", 1)
    assert schedule.take() is None
    schedule.give_back("a")
    assert schedule.take() == "a"


GPUS: dict[str, Any] = {"gpu": [{}, {}, {}, {}]}
LIMITED = {"slots": {"max": 2}}


@pytest.mark.parametrize(
    ("state", "asked", "slots"),
    [
        ({}, (0, None), 1),
        ({"slots": {"max": None}}, (0, None), 1),
        (LIMITED, (0, None), 2),
        (GPUS, (0, None), 1),
        (GPUS, (1, None), 4),
        (GPUS, (3, None), 1),
        ({**GPUS, **LIMITED}, (1, None), 2),
        ({}, (1, None), 0),
        ({}, (1, 8), 0),
        (GPUS, (1, 8), 4),
        (LIMITED, (0, 8), 8),
    ],
)
def test_slots_are_what_was_asked_for_or_what_the_worker_offers(state, asked, slots):
    gpus, wanted = asked
    assert slots_of(state, gpus=gpus, wanted=wanted) == slots
