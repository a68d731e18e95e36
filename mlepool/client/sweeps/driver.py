"""Drives a sweep: gives its runs to hosts, and notes how they end (asyncio)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from mlepool.client.connection import AsyncConnection
from mlepool.client.listening.listener import AsyncListener
from mlepool.client.sweeps.absences import Absences
from mlepool.client.sweeps.book import Book
from mlepool.client.sweeps.endings import Verdict, ended
from mlepool.client.sweeps.faults import judge
from mlepool.client.sweeps.fitness import Objection
from mlepool.client.sweeps.member import Member, Phase
from mlepool.client.sweeps.pace import Pace
from mlepool.client.sweeps.plan import RunState
from mlepool.client.sweeps.prospects import Prospects
from mlepool.client.sweeps.records import (
    Ended,
    GaveUp,
    Given,
    Halted,
    Record,
    Repeated,
    TakenBack,
)
from mlepool.client.sweeps.schedule import Schedule, slots_of

__all__ = ["Driver"]

logger = logging.getLogger("mlepool.client")

GATHERING = 0.004  # seconds in which their ends gather: one flush for several
REFUSED_PAUSE = 5.0  # seconds in which a host that has refused a run gets none
RETRY_PAUSE = 1.0  # seconds until a plan that could not be written is tried again
REFUSALS = ("WorkerBusyError", "WorkerError")  # it was not begun: another host may

Begin = Callable[[AsyncConnection, int, float], AsyncListener]


class Driver:
    """Drives one plan, over the connections of a pool or group.

    The order is always the same: which host gets a run is noted, what was noted is on
    the disk, then the host is asked. From then on the run is that host's, until the
    host has said how it ended, or is away for too long.

    Args:
        book: The plan.
        connections: The ways to the hosts.
        begin: Starts a run's present attempt on a connection, or joins it: given its
            number, and the seconds since it may have been asked for.
        objection: Tells why a host may do no run; empty if it may.
        refusals: Names of errors that say that a run was not begun, and may be
            elsewhere.

    Attributes:
        plan: As it stands.
        members: The hosts, by name.
        finished: The numbers of the runs that have ended for good, in that order.
        problem: Why the plan can't be written just now; empty if it can.
        began: When this driver began, by ``time.monotonic``.
        changes: Called after changes, several at a time.
    """

    def __init__(
        self,
        book: Book,
        connections: Iterable[AsyncConnection],
        *,
        begin: Begin,
        objection: Objection,
        refusals: tuple[str, ...] = REFUSALS,
    ) -> None:
        self.plan = book.plan
        self.members = {
            one.name: Member(one.name, one, owner=self) for one in connections
        }
        self.finished: list[int] = []
        self.problem = ""
        self.began = time.monotonic()
        self.changes: Callable[[], None] = lambda: None
        self._book = book
        self._begin = begin
        self.objection = objection
        self._refusals = refusals
        self._schedule = Schedule()
        self._wake = asyncio.Event()
        self._lost: dict[int, Ended] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._pace = Pace()
        self._absences = Absences(self.plan.head.lost_timeout, self._give_up)
        self._prospects = Prospects(self.plan, self.members, self.wake)
        self._gpus = int(self.plan.head.run.get("gpus", 0))
        self._recall()

    @property
    def verdict(self) -> str:
        """Why no host will ever take a run; empty while there is hope."""
        return self._prospects.verdict

    # -- the loop

    async def drive(self) -> None:
        """Go on until nothing runs, and nothing more will.

        What was given up is waited for, too, to be stopped. Cancelled, it leaves what
        runs to go on by itself.
        """
        try:
            for member in self.members.values():
                member.open()
                self.changed(member)
            while not self._is_settled() and not self._is_abandoned():
                self._prospects.look()
                await self._wake.wait()
                if self._pace.is_quick:
                    await asyncio.sleep(GATHERING)  # hosts have some in reserve
                self._wake.clear()
                await self._go_on()
        finally:
            await self._end()

    async def _go_on(self) -> None:
        """Give out what can be, after it was written down."""
        batch = self._give()
        try:
            self._book.write()
            if batch:
                await asyncio.to_thread(self._book.sync)
        except OSError as exc:
            if not self.problem:  # said once, and not at each attempt
                text = "the plan can't be written: %s; no more runs begin until it can"
                logger.warning(text, exc)
            self.problem = f"the plan can't be written: {exc}"
            await asyncio.sleep(RETRY_PAUSE)
            self._wake.set()
            for member, number in batch:
                self._take_back(member, number)
            return
        if self.problem:
            self.problem = ""
            self._wake.set()
        for member, number in batch:
            if member.is_ready and self.plan.halted is None:
                member.ready.append(number)
                member.start_next()
            else:
                self._take_back(member, number)
        self.changes()

    def wake(self) -> None:
        """Look again: there is more to give."""
        self._wake.set()

    def _give(self) -> list[tuple[Member, int]]:
        """Decide which runs go where; it is noted, and not written yet."""
        batch = []
        while not self.problem and (number := self.plan.next()) is not None:
            host = self._schedule.take(other_than=self.plan.run(number).host)
            if host is None:
                break
            if self._has_failed_there(number, host):
                fresh = self.plan.next_fresh()
                if fresh is None:
                    self._schedule.give_back(host)
                    break  # it waits for another host
                number = fresh
            attempt = self.plan.run(number).attempt
            self._book.note(Given(number, attempt, host, time.time()))
            batch.append((self.members[host], number))
        return batch

    def _has_failed_there(self, number: int, host: str) -> bool:
        """Tell if a run is repeated, and there are others to do it."""
        run = self.plan.run(number)
        return run.host == host and run.failures > 0 and self._schedule.is_choice

    async def _end(self) -> None:
        self._absences.close()
        self._prospects.close()
        for member in self.members.values():
            self._take_back_ready(member)
            member.close()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)
        self._book.close()

    def _is_settled(self) -> bool:
        """Tell if nothing is left to do: neither to run, nor to stop."""
        return self.plan.is_over and not self.plan.undead

    def _is_abandoned(self) -> bool:
        """Tell if every way to a host was closed for good, or is no use."""
        return bool(self.verdict) or all(
            one.phase in (Phase.CLOSED, Phase.ABSENT) for one in self.members.values()
        )

    # -- what members need (their Owner)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Have something done while the sweep is driven."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def note(self, record: Record) -> None:
        """Change the plan."""
        self._book.note(record)
        self._wake.set()

    def begin(
        self, connection: AsyncConnection, number: int, *, age: float
    ) -> AsyncListener:
        """Start a run's present attempt, or join it; waits for nothing."""
        return self._begin(connection, number, age)

    def changed(self, member: Member) -> None:
        """Offer a host's slots, or take them away."""
        if member.is_ready and member.connection is not None:
            state, name = member.connection.state, member.name
            member.slots = slots_of(state, gpus=self._gpus, wanted=self._wanted(name))
            self._schedule.offer(name, self._pace.room(member.slots))
            member.start_next()
        else:
            self._schedule.offer(member.name, 0)
            self._take_back_ready(member)
        self._absences.watch(member)
        self._wake.set()

    def ended(self, member: Member, number: int, listener: AsyncListener) -> None:
        """Note that a run has ended."""
        outcome = listener.intake.outcome
        failure = None if outcome is None else outcome.failure
        if failure is not None and failure.type_name in self._refusals:
            member.let_go(number)
            self._take_back(member, number)
            member.rest(REFUSED_PAUSE, failure.message)
            return
        end = ended(number, listener)
        if end.status == "LOST":
            self._lost[number] = end
            member.settle(number)
        else:
            self._note_seconds(end.seconds)
            others = (one for one in self.members.values() if one is not member)
            judge(member, end, others)
            self._finish(member, end)

    def failed(self, member: Member, number: int, reason: str) -> None:
        """Note that a run can't even be asked for."""
        self._finish(member, Ended(number, "FAILED", reason=reason))

    def buried(self, member: Member, number: int, verdict: Verdict) -> None:
        """Note what is known of an attempt that was to be stopped."""
        end = self._lost.pop(number, None)
        if end is None:
            status = verdict.status or "STOPPED"
            end = Ended(number, status, reason=f"stopped: {verdict.text}")
        elif not verdict.is_dead:
            end = Ended(number, end.status, reason=f"{end.reason}; {verdict.text}")
        self._finish(member, end, is_dead=verdict.is_dead)

    # -- ends

    def _finish(self, member: Member, end: Ended, *, is_dead: bool = True) -> None:
        """Note an end; free its slot for the next one."""
        member.let_go(end.run)
        self.note(end)
        if self._is_repeated(end, is_dead=is_dead):
            self.note(Repeated(end.run))
        else:
            self.finished.append(end.run)
            if self.plan.halted is None and not self.plan.may_fail():
                self.halt(f"{self.plan.failed} runs have failed")
        self._schedule.give_back(member.name)
        member.start_next()

    def _is_repeated(self, end: Ended, *, is_dead: bool) -> bool:
        head, run = self.plan.head, self.plan.run(end.run)
        if self.plan.halted is not None:
            return False
        if run.state is RunState.LOST:
            return is_dead and run.losses < head.retries_lost
        is_failure = run.state in (RunState.FAILED, RunState.TIMED_OUT)
        return is_failure and run.failures < head.retries

    def halt(self, reason: str, *, stops: bool = False) -> None:
        """Begin no more runs."""
        self.note(Halted(reason, stops))
        logger.warning("sweep %s: %s; no more begin", self.plan.head.id, reason)
        for member in self.members.values():
            self._take_back_ready(member)

    def _take_back(self, member: Member, number: int) -> None:
        self.note(TakenBack(number))
        self._schedule.give_back(member.name)

    def _take_back_ready(self, member: Member) -> None:
        for number in tuple(member.ready):
            self._take_back(member, number)
        member.ready.clear()

    def _note_seconds(self, seconds: float) -> None:
        if self._pace.note(seconds):
            for member in self.members.values():
                if member.is_ready:
                    self._schedule.offer(member.name, self._pace.room(member.slots))

    def _wanted(self, name: str) -> int | None:
        slots = self.plan.head.slots
        return slots.get(name) if isinstance(slots, dict) else slots

    # -- hosts that are away

    def _recall(self) -> None:
        """Take up what the plan says of an earlier driver."""
        for run in self.plan.begun():
            if run.state is RunState.GIVEN:
                member = self.members.get(run.host) or self._absent(run.host)
                member.orphans.add(run.number)
                self._schedule.fill(run.host)
            elif run.state is not RunState.WAITING:
                self.finished.append(run.number)
        for host in self.plan.zombies:
            if host not in self.members:
                self._absent(host)

    def _absent(self, host: str) -> Member:
        logger.warning("runs of the sweep are on %s, which this pool has not", host)
        member = self.members[host] = Member(host, None, owner=self)
        return member

    def _give_up(self, member: Member, seconds: float) -> None:
        """Let others do what belongs to a host that is away for too long."""
        for number in (*member.running, *member.orphans):
            member.let_go(number)
            self._lost.pop(number, None)
            reason = f"{member.name} was away for {seconds:g} s"
            logger.warning("run %d is given to another host: %s", number, reason)
            self.note(GaveUp(number, reason))
            self._schedule.give_back(member.name)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("a sweep's task failed", exc_info=task.exception())
