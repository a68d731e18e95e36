"""What built-in commands see of their worker, and what they may ask of it."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import msgspec

from mlepool.wire.values import InputAck, JobFiles, JobInfo, StopReport
from mlepool.worker.access.grants import Grant
from mlepool.worker.jail import Jail
from mlepool.worker.live import LiveConfig
from mlepool.worker.telemetry.sampler import Telemetry
from mlepool.worker.threads import Threads
from mlepool.worker.tree_session import TreeSession
from mlepool.worker.trees import Trees

__all__ = ["Context", "Process"]


class Process(msgspec.Struct, frozen=True):
    """What a command returns that wants a process started for its call.

    Attributes:
        argv: The program and its arguments.
        display: The command, for people.
        cwd: Where it runs; relative to the worker's root.
        env: Variables set on top of the worker's own environment.
        stdin: True if input will be sent.
        orphan_timeout: Seconds that nobody may read it until it is stopped; None for
            any time.
        terminal: Rows and columns of its terminal; None for pipes.
        files: For the job's record.
        priority: Where jobs wait in line, higher ones begin first.
        queue: False to be refused where it would have to wait.
        gpus: How many GPUs it is to have.
    """

    argv: tuple[bytes, ...]
    display: str
    cwd: str | None = None
    env: dict[str, str] = {}
    stdin: bool = False
    orphan_timeout: float | None = None
    terminal: tuple[int, int] | None = None
    files: JobFiles = JobFiles()
    priority: int = 0
    queue: bool = True
    gpus: int = 0


class Context(Protocol):
    """What a command may use of its worker: its first parameter, if called ``ctx``."""

    @property
    def grant(self) -> Grant:
        """What the client may do."""

    @property
    def cwd(self) -> Path:
        """The connection's working directory."""

    @property
    def threads(self) -> Threads:
        """Where what blocks is called for this client."""

    @property
    def jail(self) -> Jail:
        """The paths that the client's file commands may use."""

    def close_worker(self, grace: float) -> None:
        """Have the worker end, once what it answers has come to its end."""

    @property
    def live(self) -> LiveConfig:
        """The worker's settings, some of which clients set."""

    @property
    def telemetry(self) -> Telemetry:
        """What the worker measures."""

    def follow_metrics(self, follower: str, after: int, *, collects: bool) -> bool:
        """Send samples over the client's link; see :class:`Delivery`."""

    @property
    def trees(self) -> Trees:
        """The syncs under way."""

    def tree(self, session_id: str) -> TreeSession:
        """Find a sync's session."""

    def job_list(self) -> list[JobInfo]:
        """List the jobs that run, and the latest that have ended."""

    def job_info(self, job_id: str) -> JobInfo:
        """Describe one job, however long it has ended."""

    async def stop(self, job_id: str, *, signal: str, grace: float) -> StopReport:
        """Stop a job's whole tree of processes."""

    async def feed(
        self, job_id: str, data: bytes, *, offset: int, end: bool, writer: str
    ) -> InputAck:
        """Write to a job's stdin."""

    def resize(self, job_id: str, rows: int, cols: int) -> None:
        """Give a job's terminal another size."""
