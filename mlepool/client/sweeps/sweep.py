"""AsyncSweep: the handle of many runs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mlepool.client.listening.listener import AsyncListener
from mlepool.client.sweeps.driver import Driver
from mlepool.client.sweeps.facts import SweepFacts
from mlepool.client.sweeps.rows import SweepRun
from mlepool.errors import SweepPlanError, SweepRunError
from mlepool.signals import signal_name
from mlepool.wire.values import StopReport

__all__ = ["AsyncSweep"]

logger = logging.getLogger("mlepool.client")

# A loop does not keep its tasks: a sweep goes on though nobody holds its handle.
_driven: set[asyncio.Task[None]] = set()

STOP_LIMIT = 15.0  # seconds beyond the grace for hosts to say that runs are dead


class AsyncSweep(SweepFacts):
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
        super().__init__(driver)
        self.plan = path
        self.id = driver.plan.head.id
        self.command = str(driver.plan.template)
        self._waiters: set[asyncio.Future[None]] = set()
        self._callbacks: list[Callable[..., object]] = []
        driver.changes = self._changed
        self._task = asyncio.get_running_loop().create_task(driver.drive())
        _driven.add(self._task)
        self._task.add_done_callback(self._ended)

    def __repr__(self) -> str:
        kind = type(self).__name__.removeprefix("Async")
        parts = self._parts()
        if self._task.done() and not self.done:
            parts.append(f"left; plan {self.plan}")
        elif self.problem:
            parts.append(self.problem)
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
        self, signal: str | int = "SIGINT", *, grace: float = 10.0
    ) -> dict[int, StopReport]:
        """Stop what has begun, and begin nothing more.

        Args:
            signal: The first signal, by its name (``"SIGTERM"``, ``"TERM"``) or as
                ``signal.SIGTERM``; SIGTERM and SIGKILL follow.
            grace: Seconds between two of them.

        Returns:
            The proofs, by the runs' numbers. Of runs whose host is away there is none:
            a warning names them, and ``resume`` stops them once it is back.

        Raises:
            SweepPlanError: If it was left before: ``resume`` it to stop it.
        """
        if self._task.done():
            self._raise_problem()
            return {}
        driver = self._driver
        name = signal_name(signal)
        driver.halt("it was stopped", stops=True)
        running = {
            number: asyncio.ensure_future(listener.stop(name, grace=grace))
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

    def _is_over(self) -> bool:
        """Tell if a wait is over: there may be something left that is to be stopped."""
        return self._task.done() or (self.done and bool(self._plan.undead))

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
            except (Exception, SystemExit):
                # Somebody else's code: it must not break the sweep.
                logger.exception("a callback of a sweep failed")

    def _ended(self, task: asyncio.Task[None]) -> None:
        _driven.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("a sweep's driver failed", exc_info=task.exception())
        plan, path = self._plan, str(self.plan)
        if not self.done:
            if self._driver.verdict:
                logger.warning("sweep %s: %s", self.id, self._driver.verdict)
            text = "sweep %s was left: %d runs go on, %d wait; pool.resume(%r) goes on"
            logger.warning(text, self.id, plan.given, plan.waiting, path)
        elif plan.undead:
            text = "sweep %s: what was given up on %s may still run; pool.resume(%r)"
            logger.warning(text, self.id, ", ".join(plan.undead), path)
        self._changed()

    def _raise_problem(self) -> None:
        """Raise an error if the sweep was left before its end."""
        if not self.done:
            cause = self._driver.verdict or "the sweep was left before its end"
            raise SweepPlanError(self.plan, f"{cause}; pool.resume() goes on with it")
