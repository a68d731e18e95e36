"""The line of jobs that wait: order, turns, GPUs, the same after a restart."""

import random
from typing import Any

import pytest

from mlepool.worker.queue.slots import Line, Ticket, Wish, client_of


def joined(line: Line, *wishes: tuple[Any, ...]) -> None:
    """Have jobs join: id, client and priority of each."""
    for job_id, client, *priority in wishes:
        line.join(line.draw(job_id, Wish(client, *priority)))


def serve_one(line: Line, *, slots: int | None = 1, gpus: int = 0) -> str:
    """Serve who is next: the id; empty for nobody."""
    ticket = line.next(slots=slots, gpus=gpus)
    if ticket is None:
        return ""
    line.take(ticket)
    return ticket.id


def served(line: Line, *, slots: int | None = 1, gpus: int = 0) -> list[str]:
    """Serve all that can be: their ids, in order."""
    ids = []
    while job_id := serve_one(line, slots=slots, gpus=gpus):
        ids.append(job_id)
    return ids


def test_one_client_is_served_in_its_order():
    line = Line()
    joined(line, *((f"j{number}", "a") for number in range(5)))
    assert [line.place(f"j{number}") for number in range(5)] == [1, 2, 3, 4, 5]
    assert served(line) == ["j0", "j1", "j2", "j3", "j4"]
    assert (len(line), line.place("j0")) == (0, 0)


def test_clients_take_turns_however_much_each_has_asked_for():
    line = Line()
    joined(line, *((f"a{number}", "a") for number in range(4)))
    joined(line, ("b0", "b"), ("b1", "b"), ("c0", "c"))
    assert served(line) == ["a0", "b0", "c0", "a1", "b1", "a2", "a3"]


def test_who_comes_later_neither_waits_for_all_before_nor_catches_up():
    line = Line()
    joined(line, *((f"a{number}", "a") for number in range(4)))
    assert [serve_one(line), serve_one(line)] == ["a0", "a1"]
    joined(line, ("b0", "b"), ("b1", "b"), ("b2", "b"))
    assert served(line) == ["a2", "b0", "a3", "b1", "b2"]


def test_higher_priorities_go_first_and_take_turns_of_their_own():
    line = Line()
    joined(line, ("a0", "a"), ("a1", "a"), ("low", "b", -1))
    joined(line, ("high0", "a", 5), ("high1", "a", 5), ("high2", "b", 5))
    assert [one.id for one in line][0] == "high0"
    assert line.place("a0") == 4
    assert served(line) == ["high0", "high2", "high1", "a0", "a1", "low"]


def test_without_a_slot_nobody_is_next_and_without_a_limit_everybody():
    line = Line()
    joined(line, ("a0", "a"))
    assert line.next(slots=0, gpus=8) is None
    assert line.next(slots=-3, gpus=8) is None  # more run than may
    assert served(line, slots=None) == ["a0"]


def test_who_waits_for_gpus_lets_pass_only_those_that_need_none():
    line = Line()
    line.join(line.draw("large", Wish("a", gpus=4)))
    line.join(line.draw("small", Wish("b", gpus=1)))
    line.join(line.draw("plain", Wish("c")))
    assert [one.id for one in line.for_gpus] == ["large", "small"]
    assert served(line, gpus=3) == ["plain"]  # not small: large would never begin
    assert line.place("small") == 2
    assert served(line, gpus=4) == ["large", "small"]
    assert line.for_gpus == ()


def test_gpus_that_have_gathered_get_the_next_slot():
    line = Line()
    line.join(line.draw("large", Wish("a", gpus=4)))
    joined(line, *((f"p{number}", "b") for number in range(3)))
    assert serve_one(line, gpus=3) == "p0"
    assert line.next(slots=0, gpus=4) is None
    assert serve_one(line, gpus=4) == "large"


def test_who_leaves_is_not_served_and_leaves_no_gap():
    line = Line()
    joined(line, ("a0", "a"), ("b0", "b"), ("a1", "a"))
    assert line.leave("a0") is not None
    assert line.leave("a0") is None
    assert ("a0" in line, "a1" in line) == (False, True)
    assert [line.place(one) for one in ("b0", "a1")] == [1, 2]
    assert served(line) == ["b0", "a1"]


def test_the_line_is_the_same_after_a_restart():
    chance = random.Random(5)
    line = Line()
    for number in range(200):
        client, priority = chance.choice("abc"), chance.choice((-1, 0, 3))
        line.join(line.draw(f"j{number}", Wish(client, priority)))
        serve_one(line, slots=chance.choice((0, 1)))
    tickets = list(line)
    chance.shuffle(tickets)
    again = Line()
    for ticket in tickets:
        again.join(ticket)
    new = again.draw("new", Wish("d"))
    again.join(new)
    assert new.number > max(one.number for one in tickets)
    order = served(again)
    assert [one for one in order if one != "new"] == served(line)


def test_nothing_is_kept_of_those_who_are_gone():
    line = Line()
    for number in range(100):
        line.join(line.draw(f"j{number}", Wish(f"client {number}")))
        line.join(line.draw(f"k{number}", Wish(f"client {number}")))
        line.leave(f"k{number}")
    served(line)
    assert line._levels == {}
    assert line.draw("one", Wish("a")) == Ticket(0, 1, 201, "one", "a")


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("10.0.0.7:51234", "ci at 10.0.0.7"),
        ("[2001:db8::7]:51234", "ci at [2001:db8::7]"),
        ("pid 4711 of uid 1000", "ci at uid 1000"),
        ("a process on this machine", "ci at a process on this machine"),
    ],
)
def test_a_client_is_a_user_on_a_machine_whatever_its_processes(address, client):
    assert client_of("ci", address) == client
