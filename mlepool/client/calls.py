"""The calls of one connection, on one link after another, until each has ended."""

from __future__ import annotations

import asyncio
import contextlib
import posixpath
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mlepool.client.catalogue.commands import BoundCommand
from mlepool.client.ids import new_job_id
from mlepool.client.job_calls import JobCalls, Owner
from mlepool.client.links.conversation import Call, Conversation, OpenCall
from mlepool.client.links.open_calls import OpenCalls
from mlepool.client.links.questions import Questions
from mlepool.client.listening.answers import check_size, expect_more, explained
from mlepool.client.listening.intake import window_of
from mlepool.client.listening.listener import AsyncListener
from mlepool.client.options import CallOptions, Kind, split_options
from mlepool.client.owned import Echo, Owned, Work
from mlepool.client.printing import display, print_message
from mlepool.errors import LocalProtocolError, MlepoolError
from mlepool.wire.messages import Attach, Request
from mlepool.wire.telemetry import JobSample

__all__ = ["Calls", "text_of"]

CLOSE_GRACE = 2.0  # seconds between the signals to jobs that end with close()


class Calls(JobCalls):
    """The calls of one connection that have not ended; their listeners' owner.

    A call is entered whether there is a link or not: each new link is told of all
    that are open.

    Args:
        owner: The connection.

    Attributes:
        name: The connection's.
        cwd: The folder on the worker that relative paths count from, since ``cd``;
            empty before, for the worker's own.
    """

    def __init__(self, owner: Owner) -> None:
        self.name = owner.name
        self._owner = owner
        self._table = OpenCalls()
        self._owned = Owned(owner.name)
        self._questions = Questions(owner.name)
        self.cwd = ""

    # -- links

    def link_made(self, conversation: Conversation) -> None:
        """Take up all calls on a new link, from where each has come to."""
        self._table.link_made(conversation)
        self._questions.link_made(conversation)

    def link_gone(self) -> None:
        """Note that there is no link."""
        self._table.link_gone()
        self._questions.link_gone()

    def fail(self, error: MlepoolError) -> None:
        """Note that no link will come: nothing more comes for anybody."""
        self._table.fail(error)
        self._owned.release(*self._table.unsent)
        self._table.unsent.clear()
        self._questions.fail(error)

    def call_ended(self, call: OpenCall) -> None:
        """Note that a call's end has come (conversation)."""
        if not isinstance(call, Call):
            self._questions.ended(call)
            return
        listener = call.listener
        self._table.ended(listener)
        self._owned.release(listener.id)
        listener.ended()

    # -- new calls

    async def call(
        self,
        command: BoundCommand,
        args: tuple[Any, ...],
        keywords: dict[str, Any],
        *,
        job_id: str | None = None,
        echo: Echo = print_message,
    ) -> AsyncListener:
        """Call a command; see :meth:`AsyncConnection.call`."""
        listener = self.start(command, args, keywords, job_id=job_id)
        return await self.follow(listener, echo)

    async def follow(self, listener: AsyncListener, echo: Echo) -> AsyncListener:
        """Wait for what the caller of a command that was started waits for."""
        options = listener.options
        try:
            if options.input is not None:
                listener.feed_from(options.input)
            if not options.complete:
                await listener.accepted()
                return listener
            if options.echo_response:
                async for message in listener:
                    echo(message)
            return await listener.wait()
        except asyncio.CancelledError:
            self.give_up(listener)
            raise

    def give_up(self, listener: AsyncListener) -> None:
        """Note that nobody waits for a command any more: it must not begin now."""
        if listener.id in self._table.unsent:
            self.leave(listener)
            listener.stop_feeding()

    @contextlib.contextmanager
    def preparing(self, job_id: str) -> Iterator[None]:
        """Do what comes before a job's start: cancelled in it, the job never is."""
        self._table.unsent.add(job_id)
        try:
            yield
        except Exception:
            self._table.unsent.discard(job_id)
            raise
        self._table.unsent.discard(job_id)

    def start(
        self,
        command: BoundCommand,
        args: tuple[Any, ...],
        keywords: dict[str, Any],
        *,
        job_id: str | None = None,
        listener: AsyncListener | None = None,
        limit: float | None = None,
        age: float = 0.0,
    ) -> AsyncListener:
        """Send a command's request, or have it wait for a link.

        Args:
            command: What to call.
            args: Positional arguments.
            keywords: The others.
            job_id: The id to use; a new one by default.
            listener: Its handle, if that was made before, with its id.
            limit: Seconds that the job may take, where only the worker counts them.
            age: Seconds since the job was first asked for, if it may have been, by
                whoever: then it is not begun once more.

        Raises:
            TypeError: For arguments that don't fit the command.
            ConnectionClosedError: If there is no link, and none will come.
            ValueError: For arguments that are too large for a call.
            LocalProtocolError: If it can't be sent.
        """
        options, arguments = command.bind(args, keywords)
        name, spawns = command.spec.name, command.spec.spawns
        if options.input is not None and spawns:
            arguments["stdin"] = True
        check_size(name, arguments)
        self._owner.check_usable()
        if listener is not None:
            job_id, listener.command = listener.id, text_of(command, arguments)
            listener.begin(self, options)
        job_id = job_id or new_job_id()
        if limit is None and options.on_timeout == "stop":
            limit = options.timeout
        awaited = not options.complete
        number = self._table.next_number()
        window = window_of(options) if listener is None else listener.intake.window
        request = Request(
            *(number, job_id, name, arguments, window, limit, awaited),
            age=age,
            cwd=self.cwd,
        )
        call = self._send(request, listener)
        # All else is done while the worker begins.
        if listener is None:
            text = text_of(command, arguments)
            listener = AsyncListener(job_id, text, options, owner=self)
        _describe(listener, command)
        expect_more(self, listener, spec=command.spec, given=arguments)
        self._table.enter(listener, call)
        if command.kind is not Kind.VALUE and not options.detach:
            self._owned.add(job_id)
        return listener

    def _send(self, request: Request, listener: AsyncListener | None) -> Call:
        try:
            return self._table.send(request)
        except LocalProtocolError as exc:
            if listener is not None:
                listener.close()
            raise explained(exc, request.command, request.arguments) from None

    def check_usable(self) -> None:
        """Raise ConnectionClosedError if there is no link, and none will come."""
        self._owner.check_usable()

    def place(self, path: bytes) -> bytes:
        """Give a path on the worker such that :attr:`cwd` may change meanwhile."""
        if not self.cwd or not path or path.startswith((b"/", b"~")):
            return path
        return posixpath.join(self.cwd.encode(), path)

    async def work(self, job: Work, *, echo: Echo = print_message) -> AsyncListener:
        """Own what runs here, and wait for its end if the caller does."""
        self.own(job)
        if job.listener.options.complete:
            return await job.finish(echo)
        await asyncio.sleep(0)  # it has begun then: its progress can be asked for
        return job.listener

    def own(self, job: Work) -> None:
        """Own what runs here: it ends with the connection's ``close()``."""
        self._owned.add_work(job)

    async def attach(
        self,
        job_id: str,
        offset: int,
        keywords: dict[str, Any],
        *,
        prepare: Callable[[AsyncListener], None] = lambda _: None,
    ) -> AsyncListener:
        """Read a job; see :meth:`AsyncConnection.attach`.

        Args:
            job_id: The job.
            offset: Where to begin.
            keywords: The client's options.
            prepare: Called with the listener before anything comes.
        """
        if not isinstance(job_id, str):
            raise TypeError(f"a job's id is a str, not {type(job_id).__name__}")
        if not isinstance(offset, int) or isinstance(offset, bool) or offset < 0:
            raise ValueError(f"offset must be a listener's position, not {offset!r}")
        options, rest = split_options(keywords, kind=Kind.PROCESS)
        if rest:
            raise TypeError(f"attach() has no keyword {next(iter(rest))!r}")
        listener = self._attach(job_id, job_id, options, position=offset)
        prepare(listener)
        await listener.accepted()
        if not listener.intake.is_accepted and listener.error is not None:
            raise listener.error
        return listener

    async def ask(
        self,
        name: str,
        arguments: dict[str, Any],
        *,
        size: int = 0,
        cwd: str | None = None,
    ) -> Any:
        """Call a command for its value alone: no listener, no messages.

        On a lost link it is repeated over the next one, under its id. Cancelled, its
        answer is not waited for; whether it was run is not known then.

        Args:
            name: The command; it need not be in the catalogue.
            arguments: Its arguments, by name.
            size: Bytes that it holds, or that its answer will: with so much it waits
                until what is under way leaves room, and small calls go before it.
            cwd: What relative paths count from, if not from :attr:`cwd`.

        Raises:
            RemoteError: What the worker raised, of its own type where that is safe.
            ConnectionClosedError: If there is no link, and none will come.
            ConnectionLostError: If the link was lost for good.
            LocalProtocolError: If it can't be sent.
        """
        self._owner.check_usable()
        place = self.cwd if cwd is None else cwd
        return await self._questions.ask(
            *(new_job_id(), name, arguments), size=size, cwd=place
        )

    # -- what listeners need (their Owner)

    def give_credit(self, listener: AsyncListener, position: int) -> None:
        """Tell the worker how far it may send; a new link is told by itself."""
        self._table.give_credit(listener, position)

    def look(self, listener: AsyncListener) -> None:
        """Ask the worker where a job's output ends now; nothing without a link."""
        self._table.look(listener)

    def leave(self, listener: AsyncListener) -> None:
        """Receive no more for a listener; what was not sent yet never is."""
        if self._table.leave(listener):
            self._owned.release(listener.id)

    def reread(self, listener: AsyncListener) -> AsyncListener:
        """Read a job's output again from where the listener began."""
        again = self._attach(
            listener.id,
            listener.command,
            listener.options,
            position=listener.intake.begin,
        )
        again.max_interval = None
        return again

    def job_metrics(self, job_id: str) -> JobSample | None:
        """Give what a job uses, as far as that is known."""
        return self._owner.job_metrics(job_id)

    def release(self, job_id: str) -> bool:
        """Own a job no more: ``close()`` leaves it running.

        Returns:
            False if the worker can't have heard of it yet.
        """
        self._owned.release(job_id)
        return self.was_sent(job_id)

    def was_sent(self, job_id: str) -> bool:
        """Tell if the worker may have heard of a job."""
        return job_id not in self._table.unsent

    # -- at the end

    def owned(self) -> list[str]:
        """Give the ids of the jobs that ``close()`` would stop."""
        return self._owned.job_ids()

    async def stop_owned(self) -> None:
        """Stop the jobs that end with ``close()``, or say which could not be."""
        await self._owned.stop_works()
        unsent = self._table.unsent
        if self._table.has_link:
            await self._owned.stop_jobs(
                unsent, lambda one: self.stop_job(one, "SIGINT", grace=CLOSE_GRACE)
            )
        else:
            self._owned.give_up(unsent)

    # -- within

    def _attach(
        self, job_id: str, command: str, options: CallOptions, *, position: int
    ) -> AsyncListener:
        self._owner.check_usable()
        listener = AsyncListener(
            job_id, command, options, owner=self, position=position
        )
        number = self._table.next_number()
        message = Attach(number, job_id, position, listener.intake.window)
        self._table.enter(listener, self._table.send(message))
        return listener


def text_of(command: BoundCommand, arguments: Mapping[str, Any]) -> str:
    """Give what a call runs, for people."""
    name = command.spec.name
    if not command.spec.spawns:
        return name
    return display(arguments.get("command", arguments.get("cmd", name)))


def _describe(listener: AsyncListener, command: BoundCommand) -> None:
    """Tell a listener what its command gives."""
    spec = command.spec
    listener.returns, listener.gives_value = spec.returns, not spec.spawns
    listener.is_question = command.kind is Kind.VALUE
    if spec.streams:
        listener.intake.expect_yields()
