"""Which workers a subcommand is about, and which of them has a job."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Annotated, Any, NamedTuple

import typer

from mlepool.cli.wording import complain, spelled, visible
from mlepool.client.connection import AsyncConnection
from mlepool.client.links.trust import Target, local_workers
from mlepool.errors import ClientError, MlepoolError
from mlepool.wire.values import JobInfo, StopReport

__all__ = [
    "Found",
    "Hosts",
    "JobLookupError",
    "Reached",
    "choose",
    "leave",
    "open_connection",
    "reach",
    "split_hosts",
    "stop_job",
]

LOCAL_LIMIT = 5.0  # seconds for a worker on this machine to answer
LEAVE_LIMIT = 1.0  # seconds that a worker has to hear that we leave
MAX_CANDIDATES = 10  # jobs that an error lists

Hosts = Annotated[
    list[str] | None,
    typer.Option(
        "-H",
        "--host",
        help="HOST[,HOST...]; repeatable. Default: the workers of this machine.",
        show_default=False,
    ),
]


class JobLookupError(MlepoolError, LookupError):
    """No job is meant by a text, or more than one."""


class Found(NamedTuple):
    """A job, and who has it; ``info`` is None for one that is on disk only."""

    connection: AsyncConnection
    id: str
    info: JobInfo | None = None

    @property
    def host(self) -> str:
        """The worker's name."""
        return self.connection.name

    def __str__(self) -> str:
        if self.info is None:
            return self.id
        return f"{self.id} {self.host} {self.info.status} {visible(self.info.command)}"


class Reached(NamedTuple):
    """Workers that have answered; ``failed`` names the others."""

    connections: list[AsyncConnection]
    failed: list[str]

    async def jobs(self) -> list[Found]:
        """List the jobs of all, by host and start."""
        lists = await asyncio.gather(*(one.jobs(raise_error=True) for one in self[0]))
        return [
            Found(connection, info.id, info)
            for connection, listener in zip(self[0], lists, strict=True)
            for info in sorted(listener.value, key=lambda info: info.started)
        ]

    async def find(self, text: str) -> Found:
        """Find the job that an id, or the beginning of one, means.

        Raises:
            JobLookupError: If there is none, or more than one.
        """
        jobs = await self.jobs()
        found = choose(text, jobs)
        if found is not None:
            return found
        # Workers list the latest jobs; those before are found by the whole id.
        for connection in self.connections:
            with contextlib.suppress(LookupError):
                (await connection.attach(text)).close()
                return Found(connection, text)
        raise _unknown(text, self, jobs)


def split_hosts(texts: Sequence[str]) -> dict[str, Target]:
    """Read what was given for ``-H``: targets by their names, each one once.

    Raises:
        ConfigError: If one can't be a host.
        BadParameter: If there is none.
    """
    names = [name for group in texts for name in group.split(",") if name]
    if not names:
        raise typer.BadParameter("no host is named", param_hint="-H")
    targets = [Target.parse(name) for name in names]
    return {spelled(target): target for target in targets}


@contextlib.asynccontextmanager
async def reach(hosts: Sequence[str] | None) -> AsyncIterator[Reached]:
    """Connect to hosts, or to all workers of this machine; complain of the silent."""
    if hosts is None or not hosts:
        targets, limit = _local(), LOCAL_LIMIT
    else:
        targets, limit = split_hosts(hosts), None
    connections = [open_connection(one, name) for name, one in targets.items()]
    try:
        dials = (_connect(connection, limit) for connection in connections)
        answers = await asyncio.gather(*dials)
        pairs = list(zip(connections, answers, strict=True))
        failed = [one.name for one, answer in pairs if not answer]
        yield Reached([one for one, answer in pairs if answer], failed)
    finally:
        await leave(connections)


def open_connection(
    target: Target, name: str, *, tell: Callable[[str], None] = complain
) -> AsyncConnection:
    """Make a connection that tells when its link is lost, and when it is back."""
    connection = AsyncConnection(target, name=name)
    for event, text in (
        ("reconnecting", f"lost the link to {name}; reconnecting"),
        ("reconnected", f"connected to {name} again"),
    ):
        connection.on(event, functools.partial(_tell, tell, text))
    return connection


async def stop_job(
    connection: AsyncConnection, job_id: str, signal: str, *, grace: float
) -> StopReport:
    """Stop a job.

    Args:
        connection: Who has it.
        job_id: The job.
        signal: The first signal, e.g. ``"SIGINT"``.
        grace: Seconds between two signals.

    Raises:
        MlepoolError: If it could not be tried.
    """
    options: dict[str, Any] = {"signal": signal, "grace": grace, "raise_error": True}
    listener = await connection.stop(job_id, **options)
    assert isinstance(listener.value, StopReport)
    return listener.value


async def leave(connections: Sequence[AsyncConnection]) -> None:
    """Disconnect, which stops nothing; a worker that is stuck is not waited for."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LEAVE_LIMIT):
            await asyncio.gather(*(one.disconnect() for one in connections))


def choose(text: str, jobs: Sequence[Found]) -> Found | None:
    """Choose the job with this id, or the only one whose id begins so.

    Raises:
        JobLookupError: If several do.
    """
    whole = [one for one in jobs if one.id == text]
    meant = whole or [one for one in jobs if text and one.id.startswith(text)]
    if len(meant) > 1:
        hint = "name its host with -H" if whole else "give more of its id"
        raise JobLookupError(
            f"{text!r} may be any of {len(meant)} jobs; {hint}:{_listed(meant)}"
        )
    return meant[0] if meant else None


def _local() -> dict[str, Target]:
    # The socket is there whatever address and scheme the worker listens on.
    found: dict[str, Target] = {}
    for one in local_workers():
        socket = Target(str(one.state_dir), 0, "unix")
        name = Target("localhost", one.port).name
        # Two may have one port: a worker that was killed has left its name behind.
        found[spelled(socket) if name in found else name] = socket
    if not found:
        raise JobLookupError(
            "no worker of this account runs on this machine; name hosts with -H"
        )
    return found


def _tell(tell: Callable[[str], None], text: str, _: AsyncConnection) -> None:
    tell(text)


async def _connect(connection: AsyncConnection, limit: float | None) -> bool:
    try:
        await connection.connect_within(limit)
    except ClientError as exc:
        complain(str(exc))
        return False
    return True


def _unknown(text: str, reached: Reached, jobs: list[Found]) -> JobLookupError:
    names = ", ".join(one.name for one in reached.connections) or "any host"
    latest = sorted(jobs, key=lambda one: one.info.started if one.info else 0)[::-1]
    there = f"; there are:{_listed(latest)}" if jobs else "; it has none at all"
    return JobLookupError(f"there is no job {visible(text)!r} on {names}{there}")


def _listed(jobs: Sequence[Found]) -> str:
    lines = [f"\n  {one}" for one in jobs[:MAX_CANDIDATES]]
    more = len(jobs) - MAX_CANDIDATES
    return "".join(lines) + (f"\n  and {more} more" if more > 0 else "")
