"""One job as the worker knows it, its states, and who reads it."""

from __future__ import annotations

import asyncio
import enum
import functools
import time
from pathlib import Path
from typing import Protocol

from msgspec import structs

from mlepool.supervisor.journal import Journal
from mlepool.supervisor.messages import Resize, Spawn
from mlepool.transport.base import Piece
from mlepool.wire.codec import MAX_DATA
from mlepool.wire.messages import Outcome
from mlepool.wire.values import InputAck, JobFiles, JobInfo, StopReport

__all__ = ["Job", "Reading", "Runner", "Status"]


class Status(enum.StrEnum):
    """What a job is at."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    STOPPED = "STOPPED"
    TIMED_OUT = "TIMED_OUT"
    LOST = "LOST"


_FINAL = (
    Status.SUCCEEDED,
    Status.FAILED,
    Status.STOPPED,
    Status.TIMED_OUT,
    Status.LOST,
)
# What a job may become. What is not here is an error.
TRANSITIONS: dict[tuple[Status, Status], None] = {
    (Status.PENDING, Status.RUNNING): None,
    **{(Status.PENDING, final): None for final in _FINAL},
    **{(Status.RUNNING, final): None for final in _FINAL},
}


class Runner(Protocol):
    """What runs a job inside the worker; see :mod:`mlepool.worker.custom.task`."""

    async def stop(self, *, signal: str, grace: float, reason: str) -> StopReport:
        """Stop it, and say what of it is left."""

    async def feed(
        self, data: bytes, *, offset: int, end: bool, writer: str
    ) -> InputAck:
        """Give it input; returns once it has room for all of it."""


class Reading(Protocol):
    """Who reads a job: a :class:`~mlepool.worker.reader.Reader`."""

    @property
    def position(self) -> int:
        """How far it is."""

    def accept(self) -> None:
        """Tell the client that the job has begun, or its place in line."""

    def pump(self) -> None:
        """Send what there is."""


class Job:
    """One job, as the worker knows it.

    Attributes:
        position: Journal bytes that may be read.
        fresh: The last of them, while they are news.
        dropped: Bytes of output that could not be kept.
        orphan_timeout: Seconds that it may run without a reader.
        has_terminal: True if it was started at a terminal.
        files: The tree that it runs in, and what is to be brought back.
        owner: Who started it: the name of a token, or ``"local"``.
        task: What runs it inside the worker; None of a process, or once it has ended.
        streams: True if it is, or was, a command inside the worker.
        is_on_disk: True once its end is in its journal.
        is_light: True if its outcome lacks its value, which the journal has.
        place: Where in line it waits to begin, counted from 1; 0 if it does not.
        is_queued: True while its order is on disk: it will begin, and clients know it.
        priority: Higher ones begin before others.
        gpus: The numbers of the GPUs that it has.
        resized: The size that its terminal is to have once it has begun.
        order: What the supervisor was asked for; None if another worker has asked.
        outcome: How it ended; None before.
        readers: Who reads its output now.
        is_followed: True if one of them keeps up with it, as far as the supervisor has
            been told.
    """

    # Most of it stays so: what is not set for each job costs it nothing.
    status = Status.PENDING
    pid = 0
    cwd = ""
    position = 0
    fresh = b""
    dropped = 0
    orphan_timeout: float | None = None
    has_terminal = False
    files = JobFiles()
    owner = ""
    task: Runner | None = None
    streams = False
    is_on_disk = False
    is_light = False
    place = 0
    is_queued = False
    priority = 0
    gpus: tuple[int, ...] = ()
    resized: Resize | None = None
    order: Spawn | None = None
    outcome: Outcome | None = None
    is_followed = True
    _turn: asyncio.Event | None = None
    _journal: Journal | None = None

    def __init__(self, job_id: str, command: str, *, folder: Path) -> None:
        self.id = job_id
        self.command = command
        self.started = time.time()
        self.readers: list[Reading] = []
        self._folder = folder

    @functools.cached_property
    def feeding(self) -> asyncio.Lock:
        """Held by who writes to its stdin."""
        return asyncio.Lock()

    def info(self) -> JobInfo:
        """Describe the job to a client."""
        return JobInfo(
            self.id,
            self.command,
            self.pid,
            self.started,
            self.position,
            self.outcome,
            self.cwd,
            self.dropped,
            self.orphan_timeout,
            self.has_terminal,
            self.files,
            streams=self.streams,
            owner=self.owner,
            place=self.place,
            priority=self.priority,
            gpus=self.gpus,
        )

    def note_order(self, order: Spawn) -> None:
        """Know of the job what its order says."""
        self.cwd, self.owner, self.files = order.cwd, order.owner, order.files
        self.orphan_timeout = order.orphan_timeout
        self.has_terminal = order.terminal is not None

    def step_out(self) -> None:
        """Wait in line no more."""
        self.place = 0
        if self._turn is not None:
            self._turn.set()

    async def stepped_out(self) -> None:
        """Wait until it is in line no more."""
        if self.place:
            self._turn = self._turn or asyncio.Event()
            await self._turn.wait()

    def lighten(self) -> None:
        """Let go of a value that its journal has, too: it may be large."""
        if self.streams and self.is_on_disk and self.outcome is not None:
            self.is_light = self.outcome.value is not None or self.is_light
            self.outcome = structs.replace(self.outcome, value=None)

    def become(self, status: Status) -> None:
        """Change the status."""
        TRANSITIONS[self.status, status]
        self.status = status
        self.order = None

    def after_gap(self, position: int) -> int:
        """Give the position itself, or the next one that was not let go."""
        return position if self.news(position) else self._open().after_gap(position)

    def piece(self, position: int, size: int) -> Piece | None:
        """Find output bytes that are known to be there; fewer, to cut no record.

        Returns:
            None where they may be let go while they are sent, or are at hand: then
            :meth:`read` them.
        """
        if self.news(position):
            return None
        journal = self._open()
        if size >= MAX_DATA and position + size < self.position:
            size = journal.whole_records(position, size)
        if position + size > journal.head.kept:
            return None
        return Piece(*journal.locate(position), size)

    def read(self, position: int, size: int) -> bytes:
        """Read output bytes that are known to be there."""
        return self.news(position)[:size] or self._open().read(position, size)

    def news(self, position: int) -> bytes:
        """Give what is at hand from a position on: to the end, or nothing."""
        begin = self.position - len(self.fresh)
        return self.fresh[position - begin :] if position >= begin else b""

    def _open(self) -> Journal:
        if self._journal is None:
            self._journal = Journal(self._folder, self.id)
        return self._journal

    def close(self) -> None:
        """Close the journal's file; a later read opens it again."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None
