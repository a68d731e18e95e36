"""Drives one call on many hosts: begins what may begin, and hears what has ended.

No task for each host: one that is connected costs a call, and a callback for what
comes. Only while a host is being connected it has a task.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

from mlepool.client.connection import AsyncConnection
from mlepool.client.groups.drain import Drain
from mlepool.client.groups.limits import Limits
from mlepool.client.groups.orders import Order, Slow
from mlepool.client.groups.outcomes import of_ended, of_unreached, settle, skip
from mlepool.client.groups.slots import Slot
from mlepool.client.groups.waves import Verdict, Waves
from mlepool.client.ids import new_job_id
from mlepool.client.listening.jobless import Unbegun, end_unbegun
from mlepool.client.listening.listener import AsyncListener
from mlepool.errors import MlepoolError
from mlepool.wire.values import StopReport

__all__ = ["GroupRun", "RunOptions", "Watcher"]

AT_ONCE = 50  # hosts that begin in one go: what has come meanwhile is looked at then

# What a caller has got wrong: it would fail again.
MISTAKES = (TypeError, AttributeError, ValueError, LookupError)


class RunOptions(NamedTuple):
    """How a group's call treats its hosts.

    Attributes:
        limits: Waves, and failures.
        connect_timeout: Seconds that a host may take to be connected; 30 by default.
        retry_lost: Repeat also what may have run.
    """

    limits: Limits = Limits()
    connect_timeout: float | None = None
    retry_lost: bool = False


class Watcher(Protocol):
    """Who is told of a group's hosts: the pool."""

    gate: asyncio.Semaphore

    def must_prove(self, name: str) -> bool:
        """Tell if a host has to give a sign of life before it is asked for more."""

    async def probe(self, connection: AsyncConnection) -> None:
        """Have a connected host prove itself, if it has to.

        Raises:
            ConnectError: If it can't.
        """

    def ended(self, run: GroupRun, slot: Slot) -> None:
        """Note that an attempt has ended, as ``slot.problem`` or its listener says."""

    def over(self, run: GroupRun) -> None:
        """Note that all have their outcome."""


class GroupRun:
    """One call on many hosts.

    Args:
        connections: To the hosts, in order.
        order: What is done on each.
        options: How.
        watcher: Who is told of the hosts.
        left_out: Hosts that don't take part, and why.

    Attributes:
        name: As an owner of listeners: that of nobody.
        slots: The hosts, by name.
        order: As given.
        waves: What they are at.
        mistake: Why the call fits no worker that was asked; None if it fits one.
    """

    def __init__(
        self,
        connections: Iterable[AsyncConnection],
        order: Order,
        options: RunOptions,
        *,
        watcher: Watcher,
        left_out: dict[str, MlepoolError],
    ) -> None:
        self.order = order
        self._options = options
        self._watcher = watcher
        self._loop = asyncio.get_running_loop()
        self.slots = {one.name: Slot(one, self._listener(one)) for one in connections}
        names = [one for one in self.slots if one not in left_out]
        self.waves = Waves(names, options.limits)
        self._left_out = left_out
        self.mistake: Exception | None = None
        self._has_fitted = False
        self._ended: list[tuple[Slot, Verdict]] = []
        self._step_is_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._waiting = 0  # for the end
        self._drained = Drain()
        self._over = asyncio.Event()
        self._hearers: list[Callable[[Slot], None]] = []

    @property
    def counts_failures(self) -> bool:
        """True if the caller takes a failed command for a fault, not for an answer."""
        limits = self._options.limits
        asked = limits.max_failures is not None or limits.retries > 0
        return asked or self.order.options.raise_error

    @property
    def is_over(self) -> bool:
        """True once every host has its outcome."""
        return self._over.is_set()

    def start(self) -> None:
        """Begin."""
        for name, error in self._left_out.items():
            self.slots[name].listener.intake.fail(error)
        self._step()

    def hear(self, callback: Callable[[Slot], None]) -> None:
        """Have a function called when a host has news: it must not wait."""
        self._hearers.append(callback)

    def unhear(self, callback: Callable[[Slot], None]) -> None:
        """Call it no more; twice is fine."""
        if callback in self._hearers:
            self._hearers.remove(callback)

    async def wait(self) -> None:
        """Wait until every host has its outcome, whether output is read or not."""
        self._waiting += 1
        self._drain()
        try:
            await self._over.wait()
        finally:
            self._waiting -= 1
            self._drain()

    def halt(self, cause: str) -> None:
        """Begin no more; what runs goes on."""
        self.waves.halt(cause)
        self._step_soon()

    def abandon(self, cause: str) -> None:
        """Begin no more, also where it is being connected; what runs goes on."""
        self.halt(cause)
        for slot in self.slots.values():
            if slot.task is not None and slot.listener.is_to_come:
                slot.task.cancel()
                skip(slot, cause)
                self._note_end(slot, Verdict.BAD)

    def job_ids(self) -> dict[str, str]:
        """Give the ids of the jobs that run, by host."""
        return {
            name: slot.listener.id
            for name, slot in self.slots.items()
            if slot.is_open and not slot.listener.is_to_come
        }

    def release(self) -> dict[str, str]:
        """Own the jobs that run no more: they go on.

        Returns:
            Their ids, by host.
        """
        return {
            name: job_id
            for name, job_id in self.job_ids().items()
            if self.slots[name].listener.release(job_id)
        }

    async def stop(self, signal: str, *, grace: float) -> dict[str, Any]:
        """Stop all: what runs, side by side; what has not begun never will.

        Returns:
            A report of each host that had begun, or what kept it from being stopped.
        """
        self.halt("it was stopped")
        running = [one for one in self.slots.values() if one.is_open]
        stops = [one.listener.stop(signal, grace=grace) for one in running]
        found = await asyncio.gather(*stops, return_exceptions=True)
        return {one.name: report for one, report in zip(running, found, strict=True)}

    async def forgo(self, name: str) -> StopReport:
        """Have a host's call never begin, that has not begun yet."""
        slot = self.slots[name]
        task, listener = slot.task, slot.listener
        slot.is_forgone = True
        if not listener.intake.is_over:
            end_unbegun(listener, "STOPPED", reason="it was stopped before it began")
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
            self._note_end(slot, Verdict.BAD)
        else:
            self.waves.drop(name)
            self._step_soon()
        return StopReport(listener.id, "STOPPED", was_waiting=True)

    # -- within

    def _listener(self, connection: AsyncConnection) -> AsyncListener:
        name = connection.name
        forgo = functools.partial(self.forgo, name)
        return AsyncListener(
            new_job_id(),
            self.order.text,
            self.order.options,
            owner=Unbegun(name, f"the call on {name}", forgo),
            is_to_come=True,
        )

    def _step_soon(self) -> None:
        if not self._step_is_due:
            self._step_is_due = True
            self._loop.call_soon(self._step)

    def _step(self) -> None:
        """Take up what has ended, and begin what may begin."""
        self._step_is_due = False
        now = self._loop.time()
        ended, self._ended = self._ended, []
        for slot, verdict in ended:
            final = Verdict.BAD if slot.is_forgone else verdict
            self.waves.ended(slot.name, final, now=now)
            self._watcher.ended(self, slot)
        decisions = self.waves.next(now, most=AT_ONCE)
        if len(decisions.begin) == AT_ONCE:
            self._step_soon()
        for name in decisions.skip:
            skip(self.slots[name], self.waves.cause)
        for name in decisions.settle:
            settle(self.slots[name])
        for name in decisions.begin:
            self._begin(self.slots[name], now)
        self._set_timer()
        self._drain()
        if self.waves.is_over and not self._ended and not self.is_over:
            self._over.set()
            self._watcher.over(self)
        for slot in (self.slots[name] for one in decisions for name in one):
            self._tell(slot)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        moment = self.waves.next_time()
        self._timer = None
        if moment is not None:
            self._timer = self._loop.call_at(moment, self._step)

    def _drain(self) -> None:
        """Have output come as fast as it can while somebody waits for ends."""
        wanted = bool(self._waiting or self.waves.has_more)
        self._drained.turn(self.slots.values(), on=wanted)

    def _begin(self, slot: Slot, now: float) -> None:
        if slot.listener.intake.is_over:
            slot.attempts.append(slot.listener)
            slot.listener = self._listener(slot.connection)
        slot.began, slot.problem, slot.is_open = now, None, True
        self._drained.follow(slot)
        proved = not self._watcher.must_prove(slot.name)
        if slot.connection.is_connected and proved:
            self._call(slot)
        else:
            slot.task = self._loop.create_task(self._reach(slot))

    async def _reach(self, slot: Slot) -> None:
        """Connect to a host, and begin."""
        connection, limit = slot.connection, self._options.connect_timeout
        absence = slot.listener.longest
        # Who comes back by itself is dialled anyway: it has no need of the gate.
        gate = None if connection.is_reconnecting else self._watcher.gate
        try:
            async with gate or contextlib.nullcontext():
                await connection.connect_within(limit, absence=absence)
                await self._watcher.probe(connection)
        except Exception as exc:
            # The top of a task: whatever it was is this host's outcome.
            slot.problem = exc
            self._note_end(slot, of_unreached(exc))
        else:
            self._call(slot)
        finally:
            slot.task = None

    def _call(self, slot: Slot) -> None:
        slot.heard = functools.partial(self._heard, slot)
        slot.listener.intake.watch(slot.heard)
        try:
            slow = self.order.begin(slot.connection, slot.listener)
        except Exception as exc:
            # The top of a callback: whatever it was is this host's outcome.
            self._refused(slot, exc)
            return
        self._has_fitted, self.mistake = True, None
        if slow is not None:
            slot.task = self._loop.create_task(self._follow(slot, slow))

    async def _follow(self, slot: Slot, slow: Slow) -> None:
        try:
            await slow
        except Exception as exc:
            # The top of a task: what comes before the call has failed.
            if slot.listener.is_to_come:
                self._refused(slot, exc)
        finally:
            slot.task = None

    def _refused(self, slot: Slot, exc: Exception) -> None:
        """Note that a call could not even be made."""
        slot.problem = exc
        if isinstance(exc, MISTAKES) and not self._has_fitted:
            self.mistake = self.mistake or exc
        self._note_end(slot, Verdict.BAD)

    def _heard(self, slot: Slot) -> None:
        listener = slot.listener
        if slot.is_open and (listener.intake.is_over or listener.is_left):
            is_safe = self._options.retry_lost or self.order.is_repeatable
            self._note_end(slot, of_ended(slot, is_safe=is_safe))
        if listener.intake.is_over:
            self._hear_no_more(slot)
        self._tell(slot)

    def _hear_no_more(self, slot: Slot) -> None:
        """Let go of what would keep all hosts' output, as one cycle, in memory."""
        heard, slot.heard = slot.heard, None
        if heard is not None:
            slot.listener.intake.unwatch(heard)

    def _note_end(self, slot: Slot, verdict: Verdict) -> None:
        slot.is_open = False
        self._drained.follow(slot)
        self._ended.append((slot, verdict))
        self._step_soon()

    def _tell(self, slot: Slot) -> None:
        for callback in tuple(self._hearers):
            callback(slot)
