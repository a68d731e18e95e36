"""What a pool keeps for the calls of its groups: which run, and who is left out."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from mlepool.client.connection import AsyncConnection
from mlepool.client.groups.listener import AsyncGroupListener
from mlepool.client.groups.orders import Order
from mlepool.client.groups.quarantine import QUICK, STRIKES, Quarantine, Standing, Stay
from mlepool.client.groups.run import GroupRun, RunOptions
from mlepool.client.groups.slots import Slot
from mlepool.client.listening.listener import Status
from mlepool.errors import ConnectError, MlepoolError, SkippedError

__all__ = ["MAX_DIALS", "Quarantined", "Ward"]

logger = logging.getLogger("mlepool.client")

MAX_DIALS = 100  # connections opened at once: more only wait for each other
PROBE_LIMIT = 10.0  # seconds for a sign of life of a host that was left out


class Quarantined(NamedTuple):
    """A host that groups leave out for a while.

    Attributes:
        why: The last of its faults.
        until: When it may prove itself, seconds since the epoch.
    """

    why: str
    until: float


class Ward:
    """Begins calls on many hosts, and leaves out who fails again and again.

    Attributes:
        gate: Lets through so many who connect at once.
    """

    def __init__(self) -> None:
        self.gate = asyncio.Semaphore(MAX_DIALS)
        self._quarantine = Quarantine()
        self._connections: dict[str, AsyncConnection] = {}  # of those left out
        self._tallies: dict[GroupRun, _Tally] = {}

    def begin(
        self,
        connections: Iterable[AsyncConnection],
        order: Order,
        options: RunOptions,
    ) -> AsyncGroupListener:
        """Begin a call."""
        connections = list(connections)
        left_out = {}
        for one in connections:
            error = self._bar(one)
            if error is not None:
                left_out[one.name] = error
        run = GroupRun(connections, order, options, watcher=self, left_out=left_out)
        self._tallies[run] = _Tally(self._fault)
        run.start()
        return AsyncGroupListener(run)

    def close(self) -> None:
        """Begin nothing more: the pool is closed. Twice is fine."""
        for run in tuple(self._tallies):
            run.abandon("the pool was closed")

    # -- who is left out

    @property
    def quarantined(self) -> dict[str, Quarantined]:
        """The hosts that are left out, or have to prove themselves at the next call."""
        found = {}
        for name in self._quarantine.names():
            stay = self._quarantine.stay(name)
            if stay is not None:
                found[name] = _for_people(stay)
        return found

    def release(self, name: str) -> None:
        """Leave a host out no more; nothing if it is not."""
        if self._quarantine.release(name):
            self._told_back(name)

    # -- what a call tells (its Watcher)

    async def probe(self, connection: AsyncConnection) -> None:
        """Have a connected host prove itself, if it has to.

        Raises:
            ConnectError: If it gives no sign of life.
        """
        name = connection.name
        if self.must_prove(name):
            try:
                async with asyncio.timeout(PROBE_LIMIT):
                    lives = await connection.heartbeat()
            except TimeoutError:
                lives = False
            if not lives:
                raise ConnectError(name, 0, "it gives no sign of life")
            if self._quarantine.proved(name):
                self._told_back(name)

    def must_prove(self, name: str) -> bool:
        """Tell if a host was left out, and its time is up."""
        return self._quarantine.standing(name, now=_now()) is Standing.DUE

    def ended(self, run: GroupRun, slot: Slot) -> None:
        """Judge a host by how an attempt has ended."""
        tally = self._tallies.get(run)
        if tally is None:
            return
        if slot.listener.ok:
            self._quarantine.good(slot.name)
            tally.good()
            return
        why = _fault_of(run, slot)
        if why is not None:
            tally.fault(slot.connection, why)

    def over(self, run: GroupRun) -> None:
        """Note that a call is over."""
        self._tallies.pop(run, None)

    # -- within

    def _bar(self, connection: AsyncConnection) -> MlepoolError | None:
        """Give why a host takes no part now; None if it does."""
        name = connection.name
        stay = self._quarantine.stay(name)
        if stay is None:
            return None
        if self._connections.get(name) is not connection:  # another has the name now
            self._quarantine.release(name)
            self._connections.pop(name, None)
            return None
        if self._quarantine.standing(name, now=_now()) is not Standing.OUT:
            return None
        until = time.strftime("%H:%M:%S", time.localtime(_for_people(stay).until))
        return SkippedError(name, f"quarantined until {until}: {stay.why}")

    def _fault(self, connection: AsyncConnection, why: str) -> None:
        name = connection.name
        stay = self._quarantine.fault(name, why, now=_now())
        if stay is not None:
            self._connections[name] = connection
            seconds = stay.until - _now()
            text = "%s has failed in %d calls in a row: left out for %.0f s: %s"
            logger.warning(text, name, STRIKES, seconds, why)
            connection.tell("quarantined", _for_people(stay))

    def _told_back(self, name: str) -> None:
        connection = self._connections.pop(name)
        logger.info("%s takes part again", name)
        connection.tell("released")


class _Tally:
    """The faults in one call; they count once another host has fared well in it.

    Each host has one at most, however often it was tried again: three attempts at one
    thing say less of a host than three calls do.

    Args:
        count: Counts a fault.
    """

    def __init__(self, count: Callable[[AsyncConnection, str], None]) -> None:
        self._count = count
        self._has_good = False
        self._faulty: set[AsyncConnection] = set()
        self._held: list[tuple[AsyncConnection, str]] = []

    def good(self) -> None:
        """Note that a host has fared well."""
        self._has_good = True
        held, self._held = self._held, []
        for connection, why in held:
            self._count(connection, why)

    def fault(self, connection: AsyncConnection, why: str) -> None:
        """Note that one has not."""
        if connection in self._faulty:
            return
        self._faulty.add(connection)
        if self._has_good:
            self._count(connection, why)
        else:
            self._held.append((connection, why))


def _fault_of(run: GroupRun, slot: Slot) -> str | None:
    """Give what speaks against a host; None if nothing does."""
    if isinstance(slot.problem, ConnectError):
        return str(slot.problem)
    listener = slot.listener
    is_quick = listener.duration < QUICK and listener.status is Status.FAILED
    if slot.problem is None and run.counts_failures and is_quick:
        code = listener.exit_code
        return None if code is None else f"{listener.command!r} ended with {code}"
    return None


def _now() -> float:
    return asyncio.get_running_loop().time()


def _for_people(stay: Stay) -> Quarantined:
    return Quarantined(stay.why, time.time() + stay.until - _now())
