"""What commands may use of their worker, on behalf of one client."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from mlepool.wire.values import InputAck, JobInfo, StopReport
from mlepool.worker.access.grants import Grant
from mlepool.worker.jail import Jail
from mlepool.worker.jobs import JobTable
from mlepool.worker.live import LiveConfig
from mlepool.worker.telemetry.delivery import Link
from mlepool.worker.telemetry.sampler import Telemetry
from mlepool.worker.threads import Threads
from mlepool.worker.tree_session import TreeSession
from mlepool.worker.trees import Trees

__all__ = ["CallContext"]


class CallContext(NamedTuple):
    """The :class:`~mlepool.worker.Context` of one client's calls.

    Attributes:
        jobs: The worker's jobs.
        caller: Who the client is, for people: its address, or its pid and uid.
        trees: The worker's syncs.
        link: What stands for the client's link.
        grant: What the client may do.
        cwd: The connection's working directory.
        live: The worker's settings.
        telemetry: What the worker measures.
        close: Has the worker end, after so many seconds at the latest.
        threads: Where what blocks is called for this client.
    """

    jobs: JobTable
    caller: str
    trees: Trees
    link: Link
    grant: Grant
    cwd: Path
    live: LiveConfig
    telemetry: Telemetry
    close: Callable[[float], None]
    threads: Threads

    @property
    def jail(self) -> Jail:
        """The paths that the client's file commands may use."""
        return self.trees.ends.jail(self.cwd, self.grant)

    def follow_metrics(self, follower: str, after: int, *, collects: bool) -> bool:
        """Send samples over the client's link; see :class:`Delivery`."""
        delivery = self.telemetry.delivery
        return delivery.follow(self.link, follower, after, collects=collects)

    def close_worker(self, grace: float) -> None:
        """Have the worker end, once what it answers has come to its end."""
        self.close(grace)

    def job_list(self) -> list[JobInfo]:
        """List jobs."""
        return self.jobs.listing()

    def job_info(self, job_id: str) -> JobInfo:
        """Describe a job."""
        return self.jobs.find(job_id).info()

    async def stop(self, job_id: str, *, signal: str, grace: float) -> StopReport:
        """Stop a job, and note by whom."""
        reason = f"stopped by {self.caller}"
        return await self.jobs.stop(job_id, signal=signal, grace=grace, reason=reason)

    async def feed(
        self, job_id: str, data: bytes, *, offset: int, end: bool, writer: str
    ) -> InputAck:
        """Write to a job's stdin."""
        jobs = self.jobs
        return await jobs.feed(job_id, data, offset=offset, end=end, writer=writer)

    def resize(self, job_id: str, rows: int, cols: int) -> None:
        """Give a job's terminal another size."""
        self.jobs.resize(job_id, rows, cols)

    def tree(self, session_id: str) -> TreeSession:
        """Find a sync's session."""
        return self.trees.find(session_id, self.link)
