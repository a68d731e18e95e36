"""Single runs for whichever host has a free slot: what ``submit`` does."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from mlepool.client.connection import AsyncConnection
from mlepool.client.listening.jobless import Unbegun, end_unbegun
from mlepool.client.listening.listener import AsyncListener
from mlepool.client.options import Kind, split_options
from mlepool.client.printing import display
from mlepool.client.sweeps.driver import Driver
from mlepool.client.sweeps.fitness import Objection
from mlepool.client.sweeps.plan import Plan
from mlepool.client.sweeps.plan_file import new_sweep_id
from mlepool.client.sweeps.records import Head, Record
from mlepool.wire.values import StopReport

__all__ = ["Line"]

logger = logging.getLogger("mlepool.client")

# Of a call's keywords: they say how it is waited for, or come before the call.
_NOT_HERE = ("complete", "echo_response", "sync")


class _Growing(Plan):
    """A plan to which runs are added one by one; it is never over."""

    def __init__(self, head: Head) -> None:
        self.size = 0
        super().__init__(head)

    def __len__(self) -> int:
        return self.size

    @property
    def is_over(self) -> bool:
        """False: more may be added."""
        return False


class _Memory:
    """A plan that is kept in memory alone: who submits is there to see the ends."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def note(self, record: Record) -> None:
        """Change the plan."""
        self.plan.apply(record)

    def write(self) -> None:
        """Nothing to do."""

    def sync(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""


class Line:
    """Runs that wait for a slot, in the order in which they were submitted.

    Args:
        connections: The hosts.
        objection: Tells why one of them may not do it.
        slots: How many at once on each; None for what it offers.
        gpus: How many each run needs.
    """

    def __init__(
        self,
        connections: Sequence[AsyncConnection],
        *,
        objection: Objection,
        slots: int | dict[str, int] | None,
        gpus: int,
    ) -> None:
        head = Head(
            *(new_sweep_id(), "what was submitted"),
            run={"gpus": gpus},
            slots=slots,
            retries_lost=0,
        )
        self._plan = _Growing(head)
        self._calls: dict[int, tuple[Any, dict[str, Any], AsyncListener]] = {}
        self._driver = Driver(
            *(_Memory(self._plan), connections),
            begin=self._begin,
            objection=objection,
            refusals=(),
        )
        self._driver.changes = self._forget
        self._task = asyncio.get_running_loop().create_task(self._driver.drive())
        self._task.add_done_callback(self._ended)

    @property
    def is_over(self) -> bool:
        """True once nobody serves it."""
        return self._task.done()

    def add(self, command: Any, keywords: Mapping[str, Any]) -> AsyncListener:
        """Have a run wait for its slot.

        Raises:
            TypeError: For a keyword that makes no sense here.
        """
        for name in _NOT_HERE:
            if name in keywords:
                raise TypeError(f"submit() has no keyword {name!r}")
        options, _ = split_options({**keywords, "complete": False}, kind=Kind.PROCESS)
        number = self._plan.size
        job_id = self._plan.job_id(number, 0)
        forgo = functools.partial(self.forgo, number)
        listener = AsyncListener(
            *(job_id, display(command), options),
            owner=Unbegun("any host", f"job {job_id}", forgo),
            is_to_come=True,
        )
        self._calls[number] = (command, {**keywords, "complete": False}, listener)
        self._plan.size += 1
        self._driver.wake()
        return listener

    async def forgo(self, number: int) -> StopReport:
        """Have a run never begin."""
        _, _, listener = self._calls[number]
        if not listener.intake.is_over:
            end_unbegun(listener, "STOPPED", reason="it was stopped before it began")
        return StopReport(listener.id, "STOPPED", was_waiting=True)

    async def close(self) -> None:
        """Serve it no more: what has not begun never will."""
        self._task.cancel()
        await asyncio.wait((self._task,))

    def _begin(
        self, connection: AsyncConnection, number: int, age: float
    ) -> AsyncListener:
        command, keywords, listener = self._calls[number]
        if listener.is_to_come:
            if listener.intake.is_over:
                raise LookupError("it was stopped before it began")
            listener.host = connection.name
            begun = listener
        else:  # its listener has come to the end of its link: this one is for the slot
            begun = None
        found = connection.begin_planned(
            (command,), keywords, job_id=listener.id, age=age, listener=begun
        )
        if begun is not None and begun.options.input is not None:
            begun.feed_from(begun.options.input)
        return found

    def _forget(self) -> None:
        """Let go of calls that have ended: of many, only the numbers stay."""
        finished = self._driver.finished
        for number in finished:
            _, _, listener = self._calls.pop(number)
            run = self._plan.run(number)
            if not listener.intake.is_over and listener.is_to_come:
                end_unbegun(
                    listener, "FAILED", reason=run.end.reason if run.end else ""
                )
            run.end = None
        finished.clear()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            logger.error("what serves submitted runs failed", exc_info=task.exception())
        reason = self._driver.verdict or "closed before it began"
        status = "FAILED" if self._driver.verdict else "STOPPED"
        for _, _, listener in self._calls.values():
            if listener.is_to_come and not listener.intake.is_over:
                end_unbegun(listener, status, reason=reason)
