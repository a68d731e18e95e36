"""What a custom command may use while it runs: its first parameter, called ``ctx``."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from mlepool.wire.values import Progress
from mlepool.worker.access.grants import Grant
from mlepool.worker.custom.stop_flag import StopFlag
from mlepool.worker.custom.task_input import TaskInput
from mlepool.worker.custom.task_output import TaskOutput

__all__ = ["Caller", "Context"]


class Caller(NamedTuple):
    """Who calls a custom command, and from where.

    Attributes:
        name: For people.
        grant: What it may do.
        cwd: Its connection's working directory.
        state: Gives the worker's state.
        allow: Checks a path that it gives; blocking. A PermissionError if it may not
            use that.
    """

    name: str
    grant: Grant
    cwd: Path
    state: Callable[[], dict[str, Any]]
    allow: Callable[[str], object] = lambda path: None

    def check(self, paths: Iterable[PurePath]) -> None:
        """Check paths that it gives; blocking.

        Raises:
            PermissionError: If it may not use one of them.
        """
        for path in paths:
            self.allow(str(path))


class Context:
    """One call of a custom command, as the command sees it.

    All of it may be used from any thread, :attr:`input` and :attr:`stopped` as they
    say.

    Attributes:
        id: The job's id.
        caller: Who called, for people: an address, or a pid and uid.
        grant: What the caller's token allows.
        cwd: The working directory of the caller's connection; the worker process has
            another one.
        input: The lines that clients send: ``for line in ctx.input``, or ``async for``.
        stopped: True once the command is to stop: ``if ctx.stopped``,
            ``ctx.stopped.wait(5)``, or ``await ctx.stopped`` in an async function.
    """

    def __init__(
        self,
        job_id: str,
        caller: Caller,
        *,
        output: TaskOutput,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.id = job_id
        self.caller = caller.name
        self.grant = caller.grant
        self.cwd = caller.cwd
        self.input = TaskInput(loop)
        self.stopped = StopFlag(loop)
        self._state = caller.state
        self._output = output

    def __repr__(self) -> str:
        return f"<ctx of job {self.id}>"

    @property
    def state(self) -> Mapping[str, Any]:
        """The worker's state as it is now, to read."""
        return types.MappingProxyType(self._state())

    def progress(
        self,
        percent: float | None = None,
        message: str = "",
        *,
        step: int | None = None,
        total: int | None = None,
        log: str | None = None,
    ) -> None:
        """Say how far it is: clients see the latest as ``listener.progress``.

        May be called as often as one likes: not more than 10 states a second are
        kept, the last one always.

        Args:
            percent: 0 to 100; what lies beyond is cut.
            message: What it does now.
            step: The step that it is at, counted from 1.
            total: How many steps there are.
            log: A line for the log, kept in any case: clients get it as a line of
                stderr. Alone, it changes nothing else.

        Raises:
            TypeError: If percent, step or total is no number.
        """
        if log is not None:
            self._output.write_line(str(log))
        if (percent, message, step, total) != (None, "", None, None):
            part = None if percent is None else min(100.0, max(0.0, float(percent)))
            now = Progress(part, str(message), _count(step), _count(total))
            self._output.write_progress(now)

    def log(self, text: object) -> None:
        """Add a line to the job's log: clients get it as a line of stderr."""
        self._output.write_line(str(text))


def _count(value: int | None) -> int | None:
    return None if value is None else int(value)
