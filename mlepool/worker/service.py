"""One client's link: lets it in, calls commands for it, sends it output."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import Any

import msgspec

from mlepool.errors import LocalProtocolError, WorkerError
from mlepool.peer import Peer
from mlepool.transport.base import Link
from mlepool.wire.calls import CallTable
from mlepool.wire.codec import Data
from mlepool.wire.messages import (
    NO_COMMANDS,
    Accepted,
    Attach,
    Credit,
    Ended,
    Event,
    Failure,
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
from mlepool.worker.access.grants import FULL
from mlepool.worker.access.visitor import Visitor
from mlepool.worker.answers import failed
from mlepool.worker.context import CallContext
from mlepool.worker.house import House
from mlepool.worker.job import Job, Status
from mlepool.worker.reader import Reader
from mlepool.worker.requests import Requests
from mlepool.worker.threads import Threads

__all__ = ["Service"]

logger = logging.getLogger("mlepool.worker")

GOODBYE = "the worker ends; its jobs go on, but for commands inside it"

MAX_CALLS = 10_000  # open calls of one client: bounds what it can make us hold


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
            telemetry=house.telemetry,
            close=house.drain.begin,
            threads=Threads(),
        )
        self._visitor: Visitor  # once they are let in; before that, nothing is asked
        self._calls: CallTable[Reader | None] = CallTable()
        self._requests: Requests  # likewise
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
            self.end(*self._bulk.popleft())
        for reader in self._calls:
            if reader is not None:
                reader.pump()

    def peer_gone(self, cause: str, code: str) -> None:
        """Forget the link; jobs go on (peer)."""
        if hasattr(self, "_requests"):
            self._requests.close()
        for reader in self._calls:
            if reader is not None:
                self._house.jobs.remove_reader(reader)
        self._house.trees.link_gone(self)
        self._house.gate.left(self)
        self._house.telemetry.delivery.left(self)
        self._house.left(self)
        if code in ("protocol", "version", "untrusted"):
            logger.warning("closed the link to %s: %s", self._link.info.address, cause)

    async def leave(self) -> None:
        """Say goodbye, since the worker ends; returns once the link is gone."""
        self.peer.close("ending", GOODBYE)
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
        logger.info("%s has connected (%s)", info.address, visitor.grant.name)
        house = self._house
        self._visitor = visitor
        self._context = self._context._replace(
            grant=visitor.grant, cwd=visitor.start_folder(house.root)
        )
        self._requests = Requests(house, visitor, self._context, line=self)
        house.gate.enter(self, visitor)
        session.welcome(self._welcome(mac, proof))

    def _welcome(self, mac: bytes, proof: Proof) -> Welcome:
        """Offer what this worker has; what the client knows already is only named."""
        house, (commands, digest) = self._house, self._house.registry.packed()
        if digest in proof.catalogues:
            return Welcome(mac, house.name, NO_COMMANDS, house.state(), digest)
        return Welcome(mac, house.name, msgspec.Raw(commands), house.state())

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
            self.fail(request, WorkerError(f"over {MAX_CALLS} calls are open"))
            return
        self._requests.act(request)

    def _attach(self, attach: Attach) -> None:
        if self.check_token():
            return
        self._calls.open(attach.call, None)
        try:
            job = self._house.jobs.find(attach.id)
            if attach.position and not attach.is_resumed:
                self._house.jobs.check_position(job, attach.position)
            self.read(job, attach)
        except LookupError as exc:
            if attach.is_resumed:
                reason = f"it is not known any more: {exc}"
                outcome = Outcome("LOST", end=attach.position, reason=reason)
                self.end(attach.call, outcome)
            else:
                self.fail(attach, exc)
        except (ValueError, WorkerError, OSError) as exc:
            self.fail(attach, exc)

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

    def read(self, job: Job, asked: Request | Attach) -> None:
        """Send a call a job's output, and its end.

        Raises:
            PermissionDeniedError: If the client may not read it.
        """
        self._visitor.check_reader(job)
        call, position = asked.call, asked.position
        if position > job.position and job.status is not Status.PENDING:
            reason = f"its output ends at {job.position}, before what was read of it"
            self.end(call, Outcome("LOST", end=position, reason=reason))
            return
        window = SendWindow(position, asked.window)
        reader = Reader(job, call, self.peer, window=window, finished=self._read_all)
        self._calls.replace(call, reader)
        self._house.jobs.add_reader(reader)

    def _read_all(self, reader: Reader) -> None:
        self._calls.close(reader.call)
        self._house.jobs.remove_reader(reader)

    def accept(self, call: int) -> None:
        """Tell that what has no output has begun; nothing if the call was left."""
        if self._calls.is_open(call):
            self.peer.send(Accepted(call, started=time.time()))

    def end_in_turn(self, call: int, outcome: Outcome) -> None:
        """End a call whose outcome may be large: once what is under way leaves room."""
        if self._bulk or self.peer.is_full:
            self._bulk.append((call, outcome))
        else:
            self.end(call, outcome)

    def fail(self, asked: Request | Attach, exc: Exception) -> None:
        """End a call with what was raised."""
        self.end(asked.call, failed(exc, asked.position))

    def end(self, call: int, outcome: Outcome) -> None:
        """End a call; nothing if it has ended, or was left."""
        if self._calls.is_open(call):
            self._calls.close(call)
            try:
                self.peer.send(Ended(call, outcome))
            except LocalProtocolError as exc:
                failure = Failure("TypeError", f"the command's value: {exc}")
                self.peer.send(Ended(call, Outcome("FAILED", failure=failure)))
