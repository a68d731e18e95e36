"""Sweep: the blocking handle of many runs. Calls through the portal."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mlepool.client.handles import Handle
from mlepool.client.portal import Portal
from mlepool.client.sweeps.rows import SweepRun
from mlepool.client.sweeps.sweep import AsyncSweep
from mlepool.client.sync.listener import Listener
from mlepool.client.sync.sweep_page import sweep_page
from mlepool.client.sync.views import Viewed
from mlepool.client.tables import Table
from mlepool.wire.values import StopReport

__all__ = ["Sweep"]


class Sweep(Viewed, Handle):
    """Many runs of one command: the handle of what ``map`` began.

    As :class:`~mlepool.AsyncSweep`, but its methods block. Usable from any thread.

    Ctrl-C while something here waits leaves the sweep: what has begun goes on, nothing
    more begins, and a warning says how to resume.
    """

    def __init__(self, sweep: AsyncSweep, portal: Portal) -> None:
        self._async = sweep
        self._portal = portal

    id = property(lambda self: self._async.id, doc="The sweep's id.")
    command = property(lambda self: self._async.command, doc="What is run.")
    done = property(lambda self: self._async.done, doc="True once nothing more runs.")
    ok = property(lambda self: self._async.ok, doc="True once all have ended well.")
    counts = property(
        lambda self: self._async.counts, doc="How many runs are at what, by status."
    )

    @property
    def plan(self) -> Path:
        """The plan's file, for ``resume``."""
        return self._async.plan

    @property
    def left(self) -> float | None:
        """Seconds until all is done, about; None where that can't be told."""
        return self._async.left

    @property
    def succeeded(self) -> list[int]:
        """The numbers of the runs that have ended well."""
        return self._portal.do(lambda: self._async.succeeded)

    @property
    def failed(self) -> list[int]:
        """The numbers of those that have not: FAILED, TIMED_OUT, STOPPED and LOST."""
        return self._portal.do(lambda: self._async.failed)

    @property
    def running(self) -> list[int]:
        """The numbers of those that have begun and not ended, as far as is known."""
        return self._portal.do(lambda: self._async.running)

    @property
    def problem(self) -> str:
        """What holds it up, in words; empty if nothing does."""
        return self._portal.do(lambda: self._async.problem)

    def hosts(self) -> Table:
        """Give a table of the hosts: how they stand, their slots, what runs there."""
        return self._portal.do(self._async.hosts)

    def table(self) -> Table:
        """Give all runs: parameters, status, exit code, host, seconds, points..."""
        return self._portal.do(self._async.table)

    def rows(self) -> list[dict[str, Any]]:
        """Give the same as dicts: ``pandas.DataFrame(sweep.rows())``."""
        return self._portal.do(self._async.rows)

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the same to a file; what was there is replaced as a whole.

        Raises:
            OSError: If it can't be written.
        """
        self._portal.do(lambda: self._async.to_csv(path))

    def __len__(self) -> int:
        return len(self._async)

    def __bool__(self) -> bool:
        return True

    def __getitem__(self, number: int) -> SweepRun:
        return self._portal.do(lambda: self._async[number])

    def __repr__(self) -> str:
        text = self._portal.do(lambda: repr(self._async))
        return text.replace("<AsyncSweep", "<Sweep", 1)

    def _repr_html_(self) -> str:
        return self._portal.do(lambda: sweep_page(self._async))

    def _is_live(self) -> bool:
        return not self.done

    def __iter__(self) -> Iterator[SweepRun]:
        place = 0
        while True:
            with self._leaving():
                batch = self._portal.call(self._async.next_ended(place))
            if not batch:
                return
            place += len(batch)
            yield from batch

    def wait(self, timeout: float | None = None) -> Self:
        """Wait until nothing runs, and nothing more will.

        Args:
            timeout: Seconds to wait; the sweep goes on after them.

        Raises:
            SweepPlanError: If it was left before: nothing drives it any more.
            TimeoutError: If it takes longer.
        """
        with self._leaving():
            self._portal.call(self._async.wait(), self._limit(timeout))
        return self

    def check(self, timeout: float | None = None) -> Self:
        """Wait for the end.

        Args:
            timeout: Seconds to wait; the sweep goes on after them.

        Raises:
            ExceptionGroup: Of a SweepRunError for each run that has not ended well.
            TimeoutError: If it takes longer.
        """
        with self._leaving():
            self._portal.call(self._async.check(), self._limit(timeout))
        return self

    def on(self, event: str, callback: Callable[..., object]) -> None:
        """Have a function called when something has changed: for live views.

        Args:
            event: ``"change"``.
            callback: Called with the sweep, several changes at a time, in mlepool's
                own thread: it must not block, nor call this face.

        Raises:
            ValueError: If there is no such event.
            TypeError: If it can't be called.
        """
        if not callable(callback):
            raise TypeError(f"a callback is a function, not {type(callback).__name__}")
        self._async.on(event, lambda _: callback(self))

    def attach(self, number: int, **keywords: Any) -> Listener:
        """Read the output of a run's latest attempt, then follow it.

        Args:
            number: Which run.
            keywords: As of a connection's ``attach``.

        Raises:
            IndexError: If there is none of this number.
            LookupError: If it has not begun, or its host does not know it any more.
            ConnectionClosedError: If there is no link to its host.
        """
        found = self._portal.call(self._async.attach(number, **keywords))
        return Listener(found, self._portal)

    def output(self, number: int, timeout: float | None = None) -> str:
        """Wait for a run's end, and give all that it has printed.

        Args:
            number: Which run.
            timeout: Seconds to wait.

        Raises:
            LookupError, ConnectionClosedError: As :meth:`attach`.
            TimeoutError: If it takes longer.
        """
        return self._portal.call(self._async.output(number), timeout)

    def stop(
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
        return self._portal.call(self._async.stop(signal, grace=grace))

    def close(self) -> None:
        """Leave it: nothing more begins, what has begun goes on. Twice is fine.

        ``pool.resume(sweep.plan)`` goes on with it, in this process or another one.
        """
        self._portal.call(self._async.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _limit(self, timeout: float | None) -> float | None:
        """Bound a wait; that for an end that has come is none, whatever is given."""
        return None if self.done else timeout

    @contextmanager
    def _leaving(self) -> Iterator[None]:
        try:
            yield
        except KeyboardInterrupt:
            self.close()
            raise
