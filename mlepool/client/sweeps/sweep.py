"""AsyncSweep: the handle of many runs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mlepool.client.listening.listener import AsyncListener
from mlepool.client.sweeps.driver import Driver
from mlepool.client.sweeps.plan import Plan, RunState
from mlepool.client.sweeps.rows import SweepRun, results, table, write_csv
from mlepool.client.tables import Table
from mlepool.errors import SweepPlanError, SweepRunError
from mlepool.wire.values import StopReport

__all__ = ["AsyncSweep"]

logger = logging.getLogger("mlepool.client")

# A loop does not keep its tasks: a sweep goes on though nobody holds its handle.
_driven: set[asyncio.Task[None]] = set()

STOP_LIMIT = 15.0  # seconds beyond the grace for hosts to say that runs are dead


class AsyncSweep:
    """Many runs of one command: the handle of what ``map`` began.

    It is driven in the background while this object is open. Runs belong to their
    plan, a file, and not to a connection: whatever becomes of this process, those that
    have begun go on, and ``resume`` goes on with the rest.

    ``async for`` gives the runs that have ended, as :class:`~mlepool.SweepRun`, in the
    order in which they ended, and those still to come; each ``async for`` from the
    first on. ``len()`` is the number of all runs, ``sweep[3]`` is run 3 as it stands.

    ``async with`` closes it at its end: what has begun goes on.

    Attributes:
        plan: The plan's file, for ``resume``.
        id: The sweep's; its jobs' ids begin with it.
        command: What is run, with fields.
    """

    def __init__(self, driver: Driver, path: Path) -> None:
        self.plan = path
        self.id = driver.plan.head.id
        self.command = str(driver.plan.template)
        self._driver = driver
        self._before = len(driver.finished)
        self._waiters: set[asyncio.Future[None]] = set()
        self._callbacks: list[Callable[..., object]] = []
        driver.changes = self._changed
        self._task = asyncio.get_running_loop().create_task(driver.drive())
        _driven.add(self._task)
        self._task.add_done_callback(self._ended)

    # -- how it stands

    @property
    def counts(self) -> dict[str, int]:
        """How many runs are at what: by status, and only those that are any."""
        plan = self._plan
        waiting = "WAITING" if plan.halted is None else "SKIPPED"
        counts = {str(one): plan.counts[one] for one in RunState}
        counts[waiting] = plan.waiting
        return {name: count for name, count in counts.items() if count > 0}

    @property
    def done(self) -> bool:
        """True once nothing runs, and nothing more will."""
        return self._plan.is_over

    @property
    def ok(self) -> bool:
        """True once all runs have ended well."""
        return self._plan.counts[RunState.SUCCEEDED] == len(self)

    @property
    def left(self) -> float | None:
        """Seconds until all is done, about; None where that can't be told."""
        plan, driver = self._plan, self._driver
        ended = len(driver.finished) - self._before
        if self.done or not ended or plan.halted is not None:
            return None
        rate = ended / max(1e-6, time.monotonic() - driver.began)
        return (plan.waiting + plan.given) / rate

    @property
    def succeeded(self) -> list[int]:
        """The numbers of the runs that have ended well."""
        return self._numbers(RunState.SUCCEEDED)

    @property
    def failed(self) -> list[int]:
        """The numbers of those that have not: FAILED, TIMED_OUT, STOPPED and LOST."""
        bad = (RunState.FAILED, RunState.TIMED_OUT, RunState.STOPPED, RunState.LOST)
        return self._numbers(*bad)

    @property
    def running(self) -> list[int]:
        """The numbers of those that have begun and not ended, as far as is known."""
        members = self._driver.members.values()
        return sorted(n for one in members for n in (*one.running, *one.orphans))

    @property
    def problem(self) -> str:
        """What holds it up, in words; empty if nothing does."""
        if self._driver.problem:
            return self._driver.problem
        if self.done or any(one.is_ready for one in self._driver.members.values()):
            return ""
        said = [f"{one.name}: {one.problem}" for one in self._driver.members.values()]
        return f"no host takes runs ({'; '.join(said[:3]) or 'there is none'})"

    def hosts(self) -> Table:
        """Give a table of the hosts: how they stand, their slots, what runs there."""
        rows = [
            (one.name, str(one.phase), one.slots, one.held, one.problem)
            for one in self._driver.members.values()
        ]
        return Table(("host", "state", "slots", "running", "problem"), rows)

    def table(self) -> Table:
        """Give all runs: parameters, status, exit code, host, seconds, points..."""
        return table(self._plan)

    def rows(self) -> list[dict[str, Any]]:
        """Give the same as dicts: ``pandas.DataFrame(sweep.rows())``."""
        return list(results(self._plan))

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the same to a file; what was there is replaced as a whole.

        Raises:
            OSError: If it can't be written.
        """
        write_csv(self._plan, path)

    def __len__(self) -> int:
        return len(self._plan)

    def __bool__(self) -> bool:
        return True

    def __getitem__(self, number: int) -> SweepRun:
        return SweepRun(self._plan, number)

    def __repr__(self) -> str:
        plan = self._plan
        parts = [f"{plan.counts[RunState.SUCCEEDED]} done"]
        parts += [f"{plan.failed} failed"] if plan.failed else []
        running = sum(one.held for one in self._driver.members.values())
        parts += [f"{running} running"] if running else []
        waiting = plan.waiting + plan.given - running
        if waiting:
            rest = "to go" if plan.halted is None else "skipped"
            parts.append(f"{waiting} {rest}")
        if self.left is not None:
            parts.append(f"~{_in_words(self.left)}")
        if self._task.done() and not self.done:
            parts.append(f"left; plan {self.plan}")
        kind = type(self).__name__.removeprefix("Async")
        return f"<{kind} {len(self)} runs: {', '.join(parts)}>"

    # -- waiting

    def __aiter__(self) -> AsyncIterator[SweepRun]:
        return self._iterate()

    async def next_ended(self, start: int) -> list[SweepRun]:
        """Wait for runs that have ended.

        Args:
            start: How many, of those that have ended first, are not asked for.

        Returns:
            Those after them; none once no more will come.
        """
        finished = self._driver.finished
        while len(finished) <= start and not self._is_over():
            await self._change()
        if len(finished) <= start:
            self._raise_problem()
        return [self[number] for number in finished[start:]]

    async def wait(self) -> Self:
        """Wait until nothing runs, and nothing more will.

        Raises:
            SweepPlanError: If it was left before: nothing drives it any more.
        """
        while not self._is_over():
            await self._change()
        self._raise_problem()
        return self

    async def check(self) -> Self:
        """Wait for the end.

        Raises:
            ExceptionGroup: Of a SweepRunError for each run that has not ended well.
        """
        await self.wait()
        errors = [SweepRunError(self[number]) for number in self.failed]
        if errors:
            text = f"{len(errors)} of {len(self)} runs have not ended well"
            raise ExceptionGroup(text, errors)
        return self

    def on(self, event: str, callback: Callable[..., object]) -> None:
        """Have a function called when something has changed: for live views.

        Args:
            event: ``"change"``.
            callback: Called with the sweep, several changes at a time. What it raises
                is logged.

        Raises:
            ValueError: If there is no such event.
            TypeError: If it can't be called.
        """
        if event != "change":
            raise ValueError(f"there is no event {event!r}, but 'change'")
        if not callable(callback):
            raise TypeError(f"a callback is a function, not {type(callback).__name__}")
        self._callbacks.append(callback)

    # -- one run

    async def attach(self, number: int, **keywords: Any) -> AsyncListener:
        """Read the output of a run's latest attempt, then follow it.

        Args:
            number: Which run.
            keywords: As of a connection's ``attach``.

        Raises:
            IndexError: If there is none of this number.
            LookupError: If it has not begun, or its host does not know it any more.
            ConnectionClosedError: If there is no link to its host.
        """
        run = self[number]
        member = self._driver.members.get(run.host)
        if member is None or member.connection is None:
            where = f"is on {run.host}" if run.host else "has not begun"
            raise LookupError(f"run {number} {where}")
        return await member.connection.attach(run.job_id, **keywords)

    async def output(self, number: int) -> str:
        """Wait for a run's end, and give all that it has printed.

        Raises:
            LookupError, ConnectionClosedError: As :meth:`attach`.
        """
        async with await self.attach(number) as listener:
            return str(await listener.read())

    # -- its end

    async def stop(
        self, signal: str = "SIGINT", *, grace: float = 10.0
    ) -> dict[int, StopReport]:
        """Stop what has begun, and begin nothing more.

        Args:
            signal: The first signal; SIGTERM and SIGKILL follow.
            grace: Seconds between two of them.

        Returns:
            The proofs, by the runs' numbers. Of runs whose host is away there is none:
            a warning names them, and ``resume`` stops them once it is back.
        """
        if self._task.done():
            return {}
        driver = self._driver
        driver.halt("it was stopped", stops=True)
        running = {
            number: asyncio.ensure_future(listener.stop(signal, grace=grace))
            for member in driver.members.values()
            for number, listener in member.running.items()
            if member.connection is not None and member.connection.is_connected
        }
        if running:
            await asyncio.wait(running.values(), timeout=3 * grace + STOP_LIMIT)
        reports = {}
        for number, task in running.items():
            task.cancel()
            if task.done() and not task.cancelled() and task.exception() is None:
                reports[number] = task.result()
        away = [one for one in self.running if one not in reports]
        if away:
            names = ", ".join(f"{one} on {self[one].host}" for one in away)
            logger.warning("could not stop runs: %s; resume %s", names, self.plan)
            await self.close()
        else:
            await self.wait()
        return reports

    async def close(self) -> None:
        """Leave it: nothing more begins, what has begun goes on. Twice is fine.

        ``pool.resume(sweep.plan)`` goes on with it, in this process or another one.
        """
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait((self._task,))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    # -- within

    @property
    def _plan(self) -> Plan:
        return self._driver.plan

    def _is_over(self) -> bool:
        """Tell if a wait is over: there may be something left that is to be stopped."""
        return self._task.done() or (self.done and bool(self._plan.undead))

    def _numbers(self, *states: RunState) -> list[int]:
        found = [one.number for one in self._plan.begun() if one.state in states]
        return sorted(found)

    async def _iterate(self) -> AsyncIterator[SweepRun]:
        place = 0
        while batch := await self.next_ended(place):
            place += len(batch)
            for run in batch:
                yield run

    async def _change(self) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(future)
        try:
            await future
        finally:
            self._waiters.discard(future)

    def _changed(self) -> None:
        for future in self._waiters:
            if not future.done():
                future.set_result(None)
        for callback in tuple(self._callbacks):
            try:
                callback(self)
            except Exception:
                # Somebody else's code: it must not break the sweep.
                logger.exception("a callback of a sweep failed")

    def _ended(self, task: asyncio.Task[None]) -> None:
        _driven.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("a sweep's driver failed", exc_info=task.exception())
        plan, path = self._plan, str(self.plan)
        if not self.done:
            text = "sweep %s was left: %d runs go on, %d wait; pool.resume(%r) goes on"
            logger.warning(text, self.id, plan.given, plan.waiting, path)
        elif plan.undead:
            text = "sweep %s: what was given up on %s may still run; pool.resume(%r)"
            logger.warning(text, self.id, ", ".join(plan.undead), path)
        self._changed()

    def _raise_problem(self) -> None:
        """Raise an error if the sweep was left before its end."""
        if not self.done:
            text = "the sweep was left before its end; pool.resume() goes on with it"
            raise SweepPlanError(self.plan, text)


def _in_words(seconds: float) -> str:
    if seconds < 99:
        return f"{seconds:.0f} s"
    if seconds < 99 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h"
