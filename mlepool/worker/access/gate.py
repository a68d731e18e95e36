"""The gate: who comes in, and who has to leave since their token is good no more."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import NamedTuple, Protocol

from mlepool.transport.base import LinkInfo
from mlepool.wire.messages import Outcome, Proof
from mlepool.wire.session import Session
from mlepool.wire.values import JobInfo
from mlepool.worker.access.audit import AuditLog
from mlepool.worker.access.control import AccessControl
from mlepool.worker.access.tokens import TokenStore
from mlepool.worker.access.visitor import Visitor
from mlepool.worker.job import Job
from mlepool.worker.jobs import JobTable

__all__ = ["Admission", "Gate"]

LOOK_EVERY = 1.0  # seconds between two looks whether tokens are still good
WRITE_AFTER = 0.02  # seconds until an end is written down, if nothing else is before


class Admission(NamedTuple):
    """What became of a client at the gate.

    Attributes:
        visitor: Who it is; None if it was refused.
        mac: The worker's own proof, where it has to give one.
        reason: Why it was refused.
    """

    visitor: Visitor | None
    mac: bytes = b""
    reason: str = ""


class Guest(Protocol):
    """One who was let in."""

    def check_token(self) -> bool:
        """Leave if the token is good no more, and tell if that is so."""


class Gate:
    """Lets clients in, and has them leave once their tokens are good no more.

    Args:
        tokens: The worker's tokens.
        access: Judges who proves to have one.
        audit: Where everything is written down.
        jobs: The worker's jobs.

    Attributes:
        audit: The audit log.
    """

    def __init__(
        self,
        tokens: TokenStore,
        access: AccessControl,
        *,
        audit: AuditLog,
        jobs: JobTable,
    ) -> None:
        self.audit = audit
        self._tokens = tokens
        self._jobs = jobs
        self._access = access
        self._inside: set[Guest] = set()
        self._since = audit.last_time()
        self._ended: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None

    def admit(self, session: Session, proof: Proof, info: LinkInfo) -> Admission:
        """Judge who wants to come in."""
        address, token, mac = info.address, None, b""
        if not info.is_local:
            verdict = self._access.judge(
                session, proof, channel=info.channel, address=address
            )
            token, mac = verdict.token, verdict.mac
            if token is None:
                if not verdict.is_repeated:
                    self.audit.write("refused", address=address, right=verdict.reason)
                return Admission(None, reason=verdict.reason)
        visitor = Visitor(
            *(self._tokens, self._jobs, self.audit), address=address, token=token
        )
        self.audit.write("connected", **visitor.who)
        return Admission(visitor, mac)

    def enter(self, guest: Guest, visitor: Visitor) -> None:
        """Keep an eye on somebody who was let in."""
        if visitor.token is not None:
            self._inside.add(guest)
            self._look_later()

    def left(self, guest: Guest) -> None:
        """Note that somebody is gone; twice is fine."""
        self._inside.discard(guest)

    def job_ended(self, job: Job) -> None:
        """Write down how a job has ended, in a moment: who waits for it comes first.

        Where the worker is killed before, the next one does.
        """
        if self._since is not None:
            self._ended.add(job.id)
        assert job.outcome is not None
        self._note_end(job.id, job.owner, job.outcome)
        if self._writing is None:
            loop = asyncio.get_running_loop()
            self._writing = loop.call_later(WRITE_AFTER, self._write)

    def note_past(self, jobs: Iterable[JobInfo]) -> None:
        """Write down how jobs ended while no worker was there to see it; once.

        Args:
            jobs: Those that ended last.
        """
        since, self._since = self._since, None
        for info in jobs:
            outcome = info.outcome
            if outcome is None or since is None or info.id in self._ended:
                continue
            if outcome.ended > since + 0.001:  # the log's times are cut to that
                self._note_end(info.id, info.owner, outcome, at=outcome.ended)
        self._ended.clear()
        self.audit.flush()

    def close(self) -> None:
        """Look no more, and close the log; twice is fine."""
        for timer in (self._timer, self._writing):
            if timer is not None:
                timer.cancel()
        self._inside.clear()
        self.audit.close()

    def _write(self) -> None:
        self._writing = None
        self.audit.flush()

    def _note_end(
        self, job_id: str, owner: str, outcome: Outcome, *, at: float | None = None
    ) -> None:
        self.audit.note(
            "ended",
            token=owner or None,
            job=job_id,
            status=outcome.status,
            exit_code=outcome.exit_code,
            digest=outcome.digest or None,
            reason=outcome.reason or None,
            at=at,
        )

    def _look_later(self) -> None:
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(LOOK_EVERY, self._look)

    def _look(self) -> None:
        """Have those leave whose tokens are good no more."""
        self._timer = None
        for guest in tuple(self._inside):
            guest.check_token()
        if self._inside:
            self._look_later()
