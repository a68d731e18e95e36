"""What one client asks for: commands found, checked, called and answered."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, Protocol

from mlepool.errors import MlepoolError, WorkerError
from mlepool.wire.messages import Attach, Outcome, Request
from mlepool.worker.access.visitor import Visitor
from mlepool.worker.answers import failed
from mlepool.worker.context import CallContext
from mlepool.worker.custom.command import CustomCommand
from mlepool.worker.custom.task_context import Caller
from mlepool.worker.house import House
from mlepool.worker.job import Job
from mlepool.worker.known import check_job_id
from mlepool.worker.registry import Command, Process

__all__ = ["Line", "Requests"]


class Line(Protocol):
    """Where answers go: a client's link."""

    def read(self, job: Job, asked: Request | Attach) -> None:
        """Send a call a job's output, and its end."""

    def accept(self, call: int) -> None:
        """Tell that what has no output has begun; nothing if the call was left."""

    def end(self, call: int, outcome: Outcome) -> None:
        """End a call; nothing if it has ended, or was left."""

    def end_in_turn(self, call: int, outcome: Outcome) -> None:
        """End a call whose outcome may be large."""

    def fail(self, asked: Request | Attach, exc: Exception) -> None:
        """End a call with what was raised."""


class Requests:
    """Acts on the requests of one client.

    Args:
        house: The worker.
        visitor: Who the client is, and what they may do.
        context: What commands may use on their behalf.
        line: Where answers go.
    """

    def __init__(
        self, house: House, visitor: Visitor, context: CallContext, *, line: Line
    ) -> None:
        self._house = house
        self._visitor = visitor
        self._context = context
        self._line = line
        self._starting: set[asyncio.Task[None]] = set()

    def close(self) -> None:
        """Begin nothing more: what has not begun yet is asked for again."""
        for task in self._starting:
            task.cancel()

    def act(self, request: Request) -> None:
        """Do what a request asks for, and answer it."""
        try:
            check_job_id(request.id)
            command = self._find(request)
            if command is not None:
                self._visitor.check(command.spec, request)
                spec = command.spec
                is_job = spec.spawns or spec.streams
                known = self._rejoin if is_job else self._answer_again
                if not known(request):
                    self._call(request, command)
        except Exception as exc:
            # The top of a client's call: whatever it was, the client is told.
            self._visitor.note_failure(request, exc)
            self._line.fail(request, exc)

    def _call(self, request: Request, command: Command) -> None:
        if command.spec.spawns or command.spec.streams:
            self._house.drain.check()
        context = self._context
        if request.cwd:
            context = context._replace(cwd=self._cwd(request))
        self._visitor.note(command.spec, request)
        if isinstance(command, CustomCommand):
            self._begin(request, command, context)
        else:
            self._answer(request, command.call(context, request.arguments))

    def _find(self, request: Request) -> Command | None:
        """Find a command; None if its job goes on, and it is offered no more.

        Raises:
            LookupError: If there is none.
        """
        registry = self._house.registry
        try:
            return registry.find(request.command)
        except LookupError:
            if request.age and self._rejoin(request):
                return None
            raise

    def _begin(
        self, request: Request, command: CustomCommand, context: CallContext
    ) -> None:
        """Begin a job inside the worker."""
        state, allow = self._house.state, context.jail.resolve
        job = self._house.jobs.tasks.start(
            request.id,
            command,
            request.arguments,
            caller=Caller(context.caller, context.grant, context.cwd, state, allow),
            timeout=request.timeout,
        )
        self._line.read(job, request)

    def _answer(self, request: Request, result: Any) -> None:
        if isinstance(result, Process):
            self._visitor.check_process(request, result)
            if self._visitor.grant.roots:
                starting = asyncio.create_task(self._start_inside(request, result))
                self._starting.add(starting)
                starting.add_done_callback(self._starting.discard)
            else:
                self._start(request, result)
        elif inspect.isawaitable(result):
            work = self._finish(request, result)
            task = self._house.answers.begin(
                request.command,
                request.id,
                work,
                is_kept=not self._is_bulk(request),
            )
            self._answer_with(request, task)
        else:
            self._line.end(request.call, Outcome("SUCCEEDED", value=result))

    def _start(self, request: Request, process: Process) -> None:
        self._visitor.note_process(request, process, self._cwd(request))
        try:
            job = self._house.jobs.start(
                request.id,
                process,
                timeout=request.timeout,
                is_awaited=request.is_awaited,
                owner=self._visitor.grant.name,
                address=self._context.caller,
            )
        except (MlepoolError, OSError) as exc:
            self._visitor.note_not_begun(request, exc)
            raise
        self._line.read(job, request)

    async def _start_inside(self, request: Request, process: Process) -> None:
        """Start a process of who may run them in some folders only."""
        try:
            cwd = self._cwd(request)
            process = await self._visitor.settle(request, process, cwd)
            if not self._rejoin(request):  # it may have been repeated meanwhile
                self._start(request, process)
        except Exception as exc:
            # The top of a task: whatever it was, the client is told.
            self._line.fail(request, exc)

    def _cwd(self, request: Request) -> Path:
        cwd = self._context.cwd
        return cwd / request.cwd if request.cwd else cwd  # else it is absolute

    def _answer_again(self, request: Request) -> bool:
        """Answer a repeated request as the first one; False if there was none."""
        if not request.age:
            return False
        answers = self._house.answers
        task = answers.find(request.command, request.id)
        if task is not None:
            self._answer_with(request, task)
            return True
        is_once = self._house.registry.find(request.command).is_once
        if is_once and answers.may_be_forgotten(request.age):
            reason = "another worker was asked: whether it was done can't be told"
            self._line.end(request.call, Outcome("LOST", reason=reason))
            return True
        return False

    def _answer_with(self, request: Request, task: asyncio.Task[Outcome]) -> None:
        def answer(task: asyncio.Task[Outcome]) -> None:
            if task.cancelled():
                return
            end = self._line.end_in_turn if self._is_bulk(request) else self._line.end
            end(request.call, task.result())

        if request.is_awaited:
            self._line.accept(request.call)
        task.add_done_callback(answer)

    def _rejoin(self, request: Request) -> bool:
        """Go on with the job of a repeated request; False if it is to be started."""
        jobs = self._house.jobs
        if not request.age:
            if not jobs.knows(request.id):
                return False
            self._line.read(jobs.find(request.id), request)
            return True
        try:
            self._line.read(jobs.find(request.id), request)
        except WorkerError:
            return False  # its journal is damaged: the supervisor finds it in the way
        except LookupError:
            return self._is_too_late(request)
        return True

    def _is_too_late(self, request: Request) -> bool:
        """Refuse to start what a client has asked for long ago, and say so."""
        if self._house.jobs.may_be_forgotten(request.age):
            reason = (
                f"it was first sent {request.age:.0f} s ago, and jobs of that time "
                "have been let go: whether it has run can't be told; it was not run now"
            )
            self._line.end(
                request.call, Outcome("LOST", end=request.position, reason=reason)
            )
        elif request.timeout == 0:
            reason = "its time was over before it arrived; it has not run"
            self._line.end(request.call, Outcome("TIMED_OUT", reason=reason))
        else:
            return False
        return True

    async def _finish(self, request: Request, result: Awaitable[Any]) -> Outcome:
        """Wait for an async command."""
        try:
            async with asyncio.timeout(request.timeout) as limit:
                value = await result
                self._visitor.note_value(request, value)
                return Outcome("SUCCEEDED", value=value)
        except Exception as exc:
            # The top of a task: whatever it was, the client is told.
            if isinstance(exc, TimeoutError) and limit.expired():
                return Outcome("TIMED_OUT", reason="timeout")
            self._visitor.note_failure(request, exc)
            return failed(exc)

    def _is_bulk(self, request: Request) -> bool:
        """Tell if the answer may be large: of what reads, and may be asked for again.

        That is what syncs are made of, and the commands that read files.
        """
        if request.command.startswith("_"):
            return True
        return self._house.registry.find(request.command).is_repeatable
