"""One host of a sweep: reached, prepared, and what runs there."""

from __future__ import annotations

import asyncio
import enum
import functools
import logging
import random
import time
import weakref
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from mlepool.client.connection import AsyncConnection
from mlepool.client.listening.listener import AsyncListener
from mlepool.client.sweeps.endings import Verdict, bury
from mlepool.client.sweeps.plan import Plan
from mlepool.client.sweeps.records import Buried, Host, Synced
from mlepool.errors import ClientError, MlepoolError

__all__ = ["UNTRIED", "Member", "Owner", "Phase"]

logger = logging.getLogger("mlepool.client")

FIRST_PAUSE = 1.0  # seconds between two attempts to reach a host, twice as much each
LAST_PAUSE = 60.0
UNTRIED = "not reached yet"
LEFT_PAUSE = 1.0  # seconds after which to look if a connection was closed


class Phase(enum.StrEnum):
    """How a host stands to its sweep."""

    AWAY = "away"
    PREPARING = "preparing"
    READY = "ready"
    UNFIT = "unfit"
    ABSENT = "not in this pool"
    STRANGER = "another worker"
    CLOSED = "closed"


class Owner(Protocol):
    """What a host needs of its sweep's driver."""

    plan: Plan

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Have something done while the sweep is driven."""

    def note(self, record: Any) -> None:
        """Change the plan."""

    def objection(self, connection: AsyncConnection) -> str:
        """Say why a host may do no run; empty if it may."""

    def begin(
        self, connection: AsyncConnection, number: int, *, age: float
    ) -> AsyncListener:
        """Start a run's present attempt, or join it; waits for nothing."""

    def changed(self, member: Member) -> None:
        """Note that a host stands otherwise: offer its slots, or take them away."""

    def ended(self, member: Member, number: int, listener: AsyncListener) -> None:
        """Note that a run has ended."""

    def failed(self, member: Member, number: int, reason: str) -> None:
        """Note that a run can't even be asked for."""

    def buried(self, member: Member, number: int, verdict: Verdict) -> None:
        """Note what is known of an attempt that was to be stopped."""


class Member:
    """A host of a sweep.

    Args:
        name: Its name.
        connection: The way to it; None if the pool has none.
        owner: The driver.

    Attributes:
        name: As given.
        connection: As given.
        phase: How it stands.
        problem: Why it takes nothing, in words; empty if it does.
        slots: How many may run there at once.
        running: What runs there and is listened to.
        orphans: What belongs to it, and is not listened to: it has no link.
        ready: What was given to it, and is to be sent once a slot is free.
        wins: How many runs have ended well there.
        faults: How many in a row have failed at once there.
        away_since: When it was last reached, by ``time.monotonic``; None if it is.
    """

    def __init__(
        self, name: str, connection: AsyncConnection | None, *, owner: Owner
    ) -> None:
        self.name = name
        self.connection = connection
        self.phase = Phase.AWAY if connection is not None else Phase.ABSENT
        self.problem = UNTRIED if connection else "this pool has no such host"
        self.slots = 0
        self.running: dict[int, AsyncListener] = {}
        self.orphans: set[int] = set()
        self.ready: deque[int] = deque()
        self.wins = self.faults = 0
        self.away_since: float | None = time.monotonic()
        self._owner = owner
        self._gone = asyncio.Event()
        self._left = False
        self._resting_until = 0.0

    # -- life

    def open(self) -> None:
        """Begin to reach it."""
        if self.connection is None:
            return
        for event in ("connected", "reconnected"):
            self._on(event, Member._came)
        for event in ("reconnecting", "lost", "disconnected"):
            self._on(event, functools.partial(Member._went, event=event))
        self._on("state-change", Member._look)
        self._owner.spawn(self._attend(self.connection))

    def close(self) -> None:
        """Listen to nothing any more; what runs goes on."""
        for listener in self.running.values():
            listener.close()
        self.running.clear()

    @property
    def is_ready(self) -> bool:
        """True if it takes runs now."""
        return self.phase is Phase.READY and time.monotonic() >= self._resting_until

    @property
    def held(self) -> int:
        """How many slots are taken, as far as this sweep goes."""
        return len(self.running) + len(self.orphans)

    def rest(self, seconds: float, reason: str) -> None:
        """Take nothing for a while."""
        self._resting_until, self.problem = time.monotonic() + seconds, reason
        logger.warning("%s gets no runs for %g s: %s", self.name, seconds, reason)
        asyncio.get_running_loop().call_later(seconds, self._rested)
        self._owner.changed(self)

    # -- runs

    def start_next(self) -> None:
        """Start what was given to it, as far as slots are free."""
        while self.ready and self.is_ready and self.held < self.slots:
            self.start(self.ready.popleft(), age=0.0)

    def start(self, number: int, *, age: float) -> None:
        """Start a run, or join it.

        Args:
            number: Which one.
            age: Seconds since it may have been asked for; 0 if it never was.
        """
        assert self.connection is not None
        self.orphans.add(number)  # it belongs here, whether it can be sent or not
        try:
            listener = self._owner.begin(self.connection, number, age=age)
        except ClientError:
            return  # the link was lost for good just now
        except (
            MlepoolError,
            AttributeError,
            LookupError,
            TypeError,
            ValueError,
        ) as exc:
            self._owner.failed(self, number, str(exc))
            return
        self.orphans.discard(number)
        self.running[number] = listener
        intake = listener.intake
        intake.begin_drain()
        intake.watch(lambda: self._over(number, listener) if intake.is_over else None)

    def let_go(self, number: int) -> None:
        """Own a run no more: it has ended, or is given up."""
        self.orphans.discard(number)
        listener = self.running.pop(number, None)
        if listener is not None:
            listener.close()

    def settle(self, number: int) -> None:
        """See that a run's present attempt is dead, by stopping it."""
        self.orphans.add(number)
        self._owner.spawn(self._settle(number))

    def _rested(self) -> None:
        if self.is_ready:
            self.problem = ""
        self._owner.changed(self)

    def _over(self, number: int, listener: AsyncListener) -> None:
        if self.running.get(number) is not listener:
            return
        del self.running[number]
        self.orphans.add(number)  # it belongs here until the plan says that it ended
        if listener.intake.outcome is not None:
            self._owner.ended(self, number, listener)

    async def _settle(self, number: int) -> None:
        assert self.connection is not None
        plan = self._owner.plan
        job_id = plan.job_id(number, plan.run(number).attempt)
        verdict = await bury(self.connection, job_id)
        if verdict.is_known:  # else this is asked again when the host is back
            self._owner.buried(self, number, verdict)

    # -- reaching it

    async def _attend(self, connection: AsyncConnection) -> None:
        pause = FIRST_PAUSE
        while not connection.is_closed:
            self._gone.clear()
            try:
                if not self._left:
                    await self._come_in(connection)
                    pause = FIRST_PAUSE
                self._owner.changed(self)
                await self._gone.wait()
            except Exception as exc:
                # The top of a host's task: whatever it was, the others go on.
                logger.info("sweep: %s: %s", self.name, exc)
                self.problem = str(exc)
                self._owner.changed(self)
                if not connection.is_closed:
                    await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(2 * pause, LAST_PAUSE)
        self.phase, self.problem = Phase.CLOSED, "its connection was closed"
        self._owner.changed(self)

    async def _come_in(self, connection: AsyncConnection) -> None:
        """Reach the host, take up what belongs to it, and prepare it."""
        await connection.connect()
        if not self._is_known(connection.state):
            return
        self.away_since = None
        plan = self._owner.plan
        for number, attempt in tuple(plan.zombies.get(self.name, ())):
            await self._bury(connection, number, attempt)
        for number in tuple(self.orphans):
            self._take_up(number)
        self._fit(connection)
        if self.phase is Phase.PREPARING and plan.head.sync is not None:
            await self._sync(connection, plan.head.sync)
        if self.phase is Phase.PREPARING:
            self.phase, self.problem = Phase.READY, ""

    def _take_up(self, number: int) -> None:
        plan = self._owner.plan
        if plan.halted is not None and plan.halted.stops:
            self._owner.spawn(self._settle(number))
        else:
            run = plan.run(number)
            self.start(number, age=max(time.time() - run.given, 0.001))

    def _is_known(self, state: dict[str, Any]) -> bool:
        """See that the name still stands for the worker for which it stood."""
        hosts, worker = self._owner.plan.hosts, str(state.get("id", ""))
        if self.name not in hosts:
            self._owner.note(Host(self.name, worker))
        elif hosts[self.name] != worker:
            self.phase = Phase.STRANGER
            self.problem = "it is not the worker that had this name in the plan"
            return False
        return True

    def _fit(self, connection: AsyncConnection) -> None:
        objection = self._owner.objection(connection)
        if objection:
            self.phase, self.problem = Phase.UNFIT, objection
        elif self.phase is not Phase.READY:
            self.phase, self.problem = Phase.PREPARING, "being prepared"

    async def _sync(self, connection: AsyncConnection, order: dict[str, Any]) -> None:
        if self.name in self._owner.plan.synced:
            return
        self.problem = "being synced"
        done = await connection.sync(**order, raise_error=True)
        self._owner.note(Synced(self.name, done.value.digest))

    async def _bury(
        self, connection: AsyncConnection, number: int, attempt: int
    ) -> None:
        """End an attempt that was given up while its host was away."""
        job_id = self._owner.plan.job_id(number, attempt)
        verdict = await bury(connection, job_id)
        logger.warning("%s is back: job %s: %s", self.name, job_id, verdict.text)
        if verdict.is_known:
            self._owner.note(Buried(number, attempt, self.name))

    # -- what happens to it

    def _on(self, event: str, act: Callable[..., None]) -> None:
        assert self.connection is not None
        seen = weakref.ref(self)  # a connection may live much longer than a sweep

        def note(*_: Any) -> None:
            member = seen()
            if member is not None:
                act(member)

        self.connection.on(event, note)

    def _came(self) -> None:
        self._left = False
        self._gone.set()

    def _went(self, event: str) -> None:
        self._left = event == "disconnected"
        if self._left:  # for good, perhaps: of that there is no event
            asyncio.get_running_loop().call_later(LEFT_PAUSE, self._gone.set)
        if self.away_since is None:
            self.away_since = time.monotonic()
        self.phase, self.problem = Phase.AWAY, f"{event}: no link"
        self._owner.changed(self)
        self._gone.set()

    def _look(self) -> None:
        """Look again at what the worker tells of itself."""
        assert self.connection is not None
        was_unfit = self.phase is Phase.UNFIT
        if was_unfit or self.phase is Phase.READY:
            self._fit(self.connection)
            self._owner.changed(self)
        if was_unfit:
            self._gone.set()  # to be prepared, if it fits now
