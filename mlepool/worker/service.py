"""One client's link: lets it in, calls commands for it, sends it output."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

from mlepool.config import WorkerConfig
from mlepool.errors import LocalProtocolError, WorkerError
from mlepool.peer import Peer
from mlepool.transport.base import Link
from mlepool.wire.calls import CallTable
from mlepool.wire.codec import Data
from mlepool.wire.messages import (
    Attach,
    Credit,
    Ended,
    Event,
    Failure,
    Hello,
    Leave,
    Look,
    Message,
    Outcome,
    Proof,
    Request,
    Seen,
    Welcome,
)
from mlepool.wire.session import Role, Session, State
from mlepool.wire.window import SendWindow
from mlepool.worker.answers import Answers, failed
from mlepool.worker.context import CallContext
from mlepool.worker.custom import CustomCommand
from mlepool.worker.drain import Drain
from mlepool.worker.gate import Gate
from mlepool.worker.grants import FULL
from mlepool.worker.job import Job, Reader, Status
from mlepool.worker.jobs import JobTable
from mlepool.worker.known import check_job_id
from mlepool.worker.live import LiveConfig
from mlepool.worker.registry import Command, Process, Registry
from mlepool.worker.tasks import Caller
from mlepool.worker.threads import Threads
from mlepool.worker.trees import Trees
from mlepool.worker.visitor import Visitor

__all__ = ["House", "Service"]

logger = logging.getLogger("mlepool.worker")

MAX_CALLS = 10_000  # open calls of one client: bounds what it can make us hold


class House(Protocol):
    """What all links of a worker share."""

    gate: Gate
    registry: Registry
    jobs: JobTable
    answers: Answers
    trees: Trees
    drain: Drain
    root: Path
    live: LiveConfig

    @property
    def config(self) -> WorkerConfig:
        """The settings that count now; some change while the worker runs."""

    @property
    def name(self) -> str:
        """What the worker calls itself now."""

    def on_reconfigured(self, hook: Callable[[WorkerConfig], None]) -> None:
        """Have a function called with all settings, after some have changed."""

    def hello(self) -> Hello:
        """Make this worker's first message, with a fresh nonce."""

    def state(self) -> dict[str, Any]:
        """Give what clients may know of this worker."""

    def left(self, service: Service) -> None:
        """Note that a client is gone."""


class Service:
    """Serves one link. What it starts goes on when the link is lost."""

    def __init__(self, house: House, link: Link) -> None:
        now = asyncio.get_running_loop().time()
        self._house = house
        self._link = link
        self._context = CallContext(
            *(house.jobs, link.info.address, house.trees, self),
            grant=FULL,
            cwd=house.root,
            live=house.live,
            close=house.drain.begin,
            threads=Threads(),
        )
        self._visitor: Visitor  # once they are let in; before that, nothing is asked
        self._calls: CallTable[Reader | None] = CallTable()
        self._starting: set[asyncio.Task[None]] = set()
        self._bulk: deque[tuple[int, Outcome]] = deque()
        session = Session(Role.WORKER, house.hello(), now=now)
        self.peer = Peer(link, session, handler=self)
        self._acts: dict[type, Any] = {
            Proof: self._judge,
            Request: self._request,
            Attach: self._attach,
            Credit: self._credit,
            Leave: self._leave,
            Look: self._look,
        }

    def message_received(self, message: Message | Data) -> None:
        """Act on a message (peer)."""
        act = self._acts.get(type(message))
        if act is not None:
            act(message)

    def writable(self) -> None:
        """Send bulk again (peer)."""
        while self._bulk and not self.peer.is_full:
            self._end(*self._bulk.popleft())
        for reader in self._calls:
            if reader is not None:
                reader.pump()

    def peer_gone(self, cause: str, code: str) -> None:
        """Forget the link; jobs go on (peer)."""
        for task in self._starting:
            task.cancel()  # what has not begun yet is asked for again
        for reader in self._calls:
            if reader is not None:
                self._house.jobs.remove_reader(reader)
        self._house.trees.link_gone(self)
        self._house.gate.left(self)
        self._house.left(self)
        if code in ("protocol", "version"):
            logger.warning("closed the link to %s: %s", self._link.info.address, cause)

    async def leave(self) -> None:
        """Say goodbye, since the worker ends; returns once the link is gone."""
        self.peer.close("ending", "the worker ends; its jobs go on")
        await self.peer.wait_closed()

    def tell(self, event: Event) -> None:
        """Tell the client of something; nothing before it is let in."""
        if self.peer.session.state is State.OPEN:
            self.peer.send(event)

    # -- what clients ask for

    def _judge(self, proof: Proof) -> None:
        session, info = self.peer.session, self._link.info
        visitor, mac, reason = self._house.gate.admit(session, proof, info)
        if visitor is None:
            logger.warning("refused %s: %s", info.address, reason)
            self.peer.close("refused", reason)
            return
        logger.info("%s has connected", info.address)
        house = self._house
        self._visitor = visitor
        self._context = self._context._replace(
            grant=visitor.grant, cwd=visitor.start_folder(house.root)
        )
        house.gate.enter(self, visitor)
        session.welcome(
            Welcome(mac, house.name, house.registry.catalogue(), house.state())
        )

    def check_token(self) -> bool:
        """Say goodbye if the client's token is good no more; tell if that is so."""
        problem = self._visitor.problem()
        if problem is not None:
            self.peer.close(*problem)
        return problem is not None

    def _request(self, request: Request) -> None:
        if self.check_token():
            return
        self._calls.open(request.call, None)
        if len(self._calls) > MAX_CALLS:
            self._fail(request, WorkerError(f"over {MAX_CALLS} calls are open"))
            return
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
            self._fail(request, exc)

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
        self._read(job, request)

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
            self._end(request.call, Outcome("SUCCEEDED", value=result))

    def _start(self, request: Request, process: Process) -> None:
        self._visitor.note_process(request, process, self._cwd(request))
        job = self._house.jobs.start(
            request.id,
            process,
            timeout=request.timeout,
            is_awaited=request.is_awaited,
            owner=self._visitor.grant.name,
            address=self._context.caller,
        )
        self._read(job, request)

    async def _start_inside(self, request: Request, process: Process) -> None:
        """Start a process of who may run them in some folders only."""
        try:
            cwd = self._cwd(request)
            process = await self._visitor.settle(request, process, cwd)
            if not self._rejoin(request):  # it may have been repeated meanwhile
                self._start(request, process)
        except Exception as exc:
            # The top of a task: whatever it was, the client is told.
            self._fail(request, exc)

    def _cwd(self, request: Request) -> Path:
        return self._context.cwd / request.cwd  # which is absolute, or empty

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
            self._end(request.call, Outcome("LOST", reason=reason))
            return True
        return False

    def _answer_with(self, request: Request, task: asyncio.Task[Outcome]) -> None:
        def answer(task: asyncio.Task[Outcome]) -> None:
            if task.cancelled():
                return
            if self._is_bulk(request) and (self._bulk or self.peer.is_full):
                self._bulk.append((request.call, task.result()))
            else:
                self._end(request.call, task.result())

        task.add_done_callback(answer)

    def _rejoin(self, request: Request) -> bool:
        """Go on with the job of a repeated request; False if it is to be started."""
        jobs = self._house.jobs
        if not request.age:
            if jobs.knows(request.id):
                self._read(jobs.find(request.id), request)
            return jobs.knows(request.id)
        try:
            self._read(jobs.find(request.id), request)
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
            self._end(
                request.call, Outcome("LOST", end=request.position, reason=reason)
            )
        elif request.timeout == 0:
            reason = "its time was over before it arrived; it has not run"
            self._end(request.call, Outcome("TIMED_OUT", reason=reason))
        else:
            return False
        return True

    def _attach(self, attach: Attach) -> None:
        if self.check_token():
            return
        self._calls.open(attach.call, None)
        try:
            job = self._house.jobs.find(attach.id)
            if attach.position and not attach.is_resumed:
                self._house.jobs.check_position(job, attach.position)
            self._read(job, attach)
        except LookupError as exc:
            if attach.is_resumed:
                reason = f"it is not known any more: {exc}"
                outcome = Outcome("LOST", end=attach.position, reason=reason)
                self._end(attach.call, outcome)
            else:
                self._fail(attach, exc)
        except (ValueError, WorkerError, OSError) as exc:
            self._fail(attach, exc)

    def _credit(self, credit: Credit) -> None:
        reader = self._calls.get(credit.call)
        if reader is not None:
            reader.grant(credit.position)

    def _leave(self, leave: Leave) -> None:
        self._calls.get(leave.call)
        reader = self._calls.close(leave.call)
        if reader is not None:
            self._house.jobs.remove_reader(reader)

    def _look(self, look: Look) -> None:
        reader = self._calls.get(look.call)
        if reader is not None:
            self.peer.send(Seen(look.call, reader.job.position))

    # -- answers

    def _read(self, job: Job, asked: Request | Attach) -> None:
        self._visitor.check_reader(job)
        call, position = asked.call, asked.position
        if position > job.position and job.status is not Status.PENDING:
            reason = f"its output ends at {job.position}, before what was read of it"
            self._end(call, Outcome("LOST", end=position, reason=reason))
            return
        window = SendWindow(position, asked.window)
        reader = Reader(job, call, self.peer, window=window, finished=self._read_all)
        self._calls.replace(call, reader)
        self._house.jobs.add_reader(reader)

    def _read_all(self, reader: Reader) -> None:
        self._calls.close(reader.call)
        self._house.jobs.remove_reader(reader)

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

    def _fail(self, asked: Request | Attach, exc: Exception) -> None:
        self._end(asked.call, failed(exc, asked.position))

    def _end(self, call: int, outcome: Outcome) -> None:
        if self._calls.is_open(call):
            self._calls.close(call)
            try:
                self.peer.send(Ended(call, outcome))
            except LocalProtocolError as exc:
                failure = Failure("TypeError", f"the command's value: {exc}")
                self.peer.send(Ended(call, Outcome("FAILED", failure=failure)))

    def _is_bulk(self, request: Request) -> bool:
        """Tell if the answer may be large: of what reads, and may be asked for again.

        That is what syncs are made of, and the commands that read files.
        """
        if request.command.startswith("_"):
            return True
        return self._house.registry.find(request.command).is_repeatable
