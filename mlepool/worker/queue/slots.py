"""Who is next: jobs that wait for a slot or for GPUs, in line. Pure decisions.

A job's turn is drawn when it joins the line, and never changes: the line is the same
after a restart. Higher priorities go first. Within one, each client's first job has
the turn that is being served, its second the one after that, and so on: clients take
turns, however many jobs each of them has asked for.

Who waits for GPUs lets those pass that need none: they do not use what it waits for.
Nobody who needs GPUs passes another who does, so that free ones gather for who needs
many; and once they are there, the next free slot is its own.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["MAX_PRIORITY", "Line", "Ticket", "Wish", "client_of"]

MAX_PRIORITY = 1000  # either way; more levels than anybody tells apart


class Wish(NamedTuple):
    """What a job's caller wants of the line.

    Attributes:
        client: Who it is: clients take turns.
        priority: Higher ones go first.
        gpus: How many it needs.
        may_wait: False to be refused if it can't begin at once.
    """

    client: str = ""
    priority: int = 0
    gpus: int = 0
    may_wait: bool = True


class Ticket(NamedTuple):
    """A job's place in the line; what compares lower is served first.

    Attributes:
        rank: Its priority, negated.
        turn: Its turn among jobs of that priority.
        number: The how manieth it is of all that have joined.
        id: The job's.
        client: Who has asked for it.
        gpus: How many it needs.
    """

    rank: int
    turn: int
    number: int
    id: str
    client: str
    gpus: int = 0


class _Level:
    """The turns of one priority, while anybody waits there.

    Attributes:
        served: The turn that was served last.
        last: The last turn that each client has drawn, if it is still to come.
        waiting: How many wait.
    """

    __slots__ = ("last", "served", "waiting")

    def __init__(self, served: int) -> None:
        self.served = served
        self.last: dict[str, int] = {}
        self.waiting = 0


class Line:
    """The line of a worker."""

    def __init__(self) -> None:
        self._tickets: dict[str, Ticket] = {}
        self._plain: list[Ticket] = []
        self._for_gpus: list[Ticket] = []
        self._levels: dict[int, _Level] = {}
        self._number = 0

    def __len__(self) -> int:
        return len(self._tickets)

    def __iter__(self) -> Iterator[Ticket]:
        """Give all, the next first."""
        return heapq.merge(self._plain, self._for_gpus)

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._tickets

    @property
    def for_gpus(self) -> tuple[Ticket, ...]:
        """Those who wait for GPUs, the next first."""
        return tuple(self._for_gpus)

    def draw(self, job_id: str, wish: Wish) -> Ticket:
        """Make the ticket that a new job gets; it has not joined yet."""
        level = self._levels.get(-wish.priority)
        turn = 1
        if level is not None:
            turn += max(level.served, level.last.get(wish.client, 0))
        number = self._number + 1
        return Ticket(-wish.priority, turn, number, job_id, wish.client, wish.gpus)

    def join(self, ticket: Ticket) -> None:
        """Have a job wait: a new one, or one that waited before a restart."""
        level = self._levels.get(ticket.rank)
        if level is None:
            level = self._levels[ticket.rank] = _Level(ticket.turn - 1)
        level.waiting += 1
        level.last[ticket.client] = max(level.last.get(ticket.client, 0), ticket.turn)
        self._number = max(self._number, ticket.number)
        self._tickets[ticket.id] = ticket
        insort(self._among(ticket), ticket)

    def next(self, *, slots: int | None, gpus: int) -> Ticket | None:
        """Say whose turn it is.

        Args:
            slots: Free ones; None for any number.
            gpus: Free ones.

        Returns:
            Who may begin now; None for nobody. :meth:`take` it then.
        """
        if slots is not None and slots <= 0:
            return None
        heads = self._plain[:1]
        heads += [one for one in self._for_gpus[:1] if one.gpus <= gpus]
        return min(heads, default=None)

    def take(self, ticket: Ticket) -> None:
        """Let the one go whose turn it is."""
        level = self._levels[ticket.rank]
        level.served = max(level.served, ticket.turn)
        if level.last.get(ticket.client, 0) <= level.served:
            level.last.pop(ticket.client, None)
        self.leave(ticket.id)

    def leave(self, job_id: str) -> Ticket | None:
        """Let a job go that waits no longer; None if it did not."""
        ticket = self._tickets.pop(job_id, None)
        if ticket is not None:
            among = self._among(ticket)
            del among[bisect_left(among, ticket)]
            level = self._levels[ticket.rank]
            level.waiting -= 1
            if not level.waiting:
                del self._levels[ticket.rank]
        return ticket

    def place(self, job_id: str) -> int:
        """Give a job's place, counted from 1; 0 if it does not wait."""
        ticket = self._tickets.get(job_id)
        if ticket is None:
            return 0
        before = [bisect_left(one, ticket) for one in (self._plain, self._for_gpus)]
        return sum(before) + 1

    def _among(self, ticket: Ticket) -> list[Ticket]:
        return self._for_gpus if ticket.gpus else self._plain


def client_of(owner: str, address: str) -> str:
    """Say who takes turns with others: a token's user on one machine.

    Args:
        owner: The token's name.
        address: Where the link comes from, for people. What is another one for each
            process of theirs, a port or a pid, does not count.
    """
    account = address.rpartition(" of ")[2] if " of " in address else ""
    return f"{owner} at {account or address.rpartition(':')[0] or address}"
