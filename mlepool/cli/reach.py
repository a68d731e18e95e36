"""Which workers a subcommand is about, and which of them has a job."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from mlepool.cli.choosing import Choice
from mlepool.cli.crowds import fold
from mlepool.cli.places import Place, local_places
from mlepool.cli.wording import complain, visible
from mlepool.client.connection import AsyncConnection
from mlepool.client.links.trust import Target
from mlepool.errors import ClientError, MlepoolError
from mlepool.wire.values import JobInfo, StopReport

__all__ = [
    "Found",
    "JobLookupError",
    "NoHostError",
    "Reached",
    "choose",
    "leave",
    "open_chosen",
    "open_connection",
    "reach",
    "stop_job",
]

ANSWER_LIMIT = 30.0  # seconds for a worker to list its jobs
LOCAL_LIMIT = 5.0  # seconds for a worker on this machine to answer
LEAVE_LIMIT = 1.0  # seconds that a worker has to hear that we leave
MAX_CANDIDATES = 10  # jobs that an error lists

MAX_DIALS = 100  # connections opened at once: more only wait for each other


class JobLookupError(MlepoolError, LookupError):
    """No job is meant by a text, or more than one."""


class NoHostError(MlepoolError, LookupError):
    """No host fits a selector."""


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
    """Workers that have answered; ``failed`` names those that have not, or no more."""

    connections: list[AsyncConnection]
    failed: list[str]

    async def jobs(self) -> list[Found]:
        """List the jobs of all, by host and start; who does not tell has failed."""
        lists = await asyncio.gather(*map(self._jobs_of, self.connections))
        return [one for jobs in lists for one in jobs]

    async def _jobs_of(self, connection: AsyncConnection) -> list[Found]:
        try:
            async with asyncio.timeout(ANSWER_LIMIT):
                listener = await connection.jobs(raise_error=True)
        except (MlepoolError, TimeoutError) as exc:
            why = str(exc) or f"no answer within {ANSWER_LIMIT:g} s"
            complain(f"{connection.name}: {why}")
            self.failed.append(connection.name)
            return []
        infos = sorted(listener.value, key=lambda info: info.started)
        return [Found(connection, info.id, info) for info in infos]

    async def find(self, texts: Sequence[str]) -> list[Found]:
        """Find the jobs that ids, or beginnings of such, mean; each one once.

        Raises:
            JobLookupError: If there is none to a text, or more than one.
        """
        jobs = await self.jobs()
        found = [await self._find(text, jobs) for text in texts]
        return list({(one.host, one.id): one for one in found}.values())

    async def latest(self) -> list[Found]:
        """Find the job of each host that has begun last.

        Raises:
            JobLookupError: If there is none at all.
        """
        jobs = await self.jobs()
        if not jobs:
            raise JobLookupError("no job is known there")
        return list({one.host: one for one in jobs}.values())

    async def _find(self, text: str, jobs: list[Found]) -> Found:
        found = choose(text, jobs)
        if found is not None:
            return found
        # Workers list the latest jobs; those before are found by the whole id.
        for connection in self.connections:
            with contextlib.suppress(LookupError):
                (await connection.attach(text)).close()
                return Found(connection, text)
        raise _unknown(text, self, jobs)


@contextlib.asynccontextmanager
async def reach(choice: Choice) -> AsyncIterator[Reached]:
    """Connect to hosts, or to all workers of this machine; complain of the silent."""
    is_local = choice.is_empty
    connections = _open(_local()) if is_local else await open_chosen(choice)
    try:
        errors = await _connect_all(connections, LOCAL_LIMIT if is_local else None)
        pairs = list(zip(connections, errors, strict=True))
        for one, error in pairs:
            if error is not None:
                complain(_about(one, error))
        failed = [one.name for one, error in pairs if error is not None]
        yield Reached([one for one, error in pairs if error is None], failed)
    finally:
        await leave(connections)


async def open_chosen(
    choice: Choice, *, tell: Callable[[str], None] = complain
) -> list[AsyncConnection]:
    """Make connections to the hosts that are meant.

    They are connected only where labels are asked for: those of workers count, too. Of
    who can't be reached only the labels here count; who is left out so is told of.

    Raises:
        NoHostError: If no host has such labels.
        ConfigError: If something can't be read, or names what is not there.
    """
    selector, connections = choice.reader(), _open(choice.places(), tell)
    if selector is None:
        return connections
    errors = await _connect_all(connections)
    fitting: list[AsyncConnection] = []
    others: list[AsyncConnection] = []
    for connection, error in zip(connections, errors, strict=True):
        fits = selector.matches(connection.labels, connection.state)
        (fitting if fits else others).append(connection)
        if error is not None and not fits:
            tell(f"{_about(connection, error)}; its labels are not known")
    await leave(others)
    if not fitting:
        raise NoHostError(f"no host of {len(connections)} fits {choice.selector!r}")
    return fitting


def open_connection(
    target: Target,
    name: str,
    *,
    options: Mapping[str, Any] | None = None,
    tell: Callable[[str], None] = complain,
) -> AsyncConnection:
    """Make a connection that tells when its link is lost, and when it is back."""
    connection = AsyncConnection(target, **{**(options or {}), "name": name})
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


def _local() -> dict[str, Place]:
    found = local_places()
    if not found:
        raise JobLookupError(
            "no worker of this account runs on this machine; name hosts with -H, "
            "or all that are known with -H '*'"
        )
    return found


def _open(
    places: Mapping[str, Place], tell: Callable[[str], None] = complain
) -> list[AsyncConnection]:
    return [
        open_connection(one.target, name, options=one.options, tell=tell)
        for name, one in places.items()
    ]


def _tell(tell: Callable[[str], None], text: str, _: AsyncConnection) -> None:
    tell(text)


def _about(connection: AsyncConnection, error: ClientError) -> str:
    """Say what went wrong with a host: its address may not be its name."""
    text = str(error)
    return text if connection.name in text else f"{connection.name}: {text}"


async def _connect_all(
    connections: Sequence[AsyncConnection], limit: float | None = None
) -> list[ClientError | None]:
    """Connect to all, each within a limit in seconds, or its own; give the errors."""
    gate = asyncio.Semaphore(MAX_DIALS)

    async def connect(connection: AsyncConnection) -> ClientError | None:
        async with gate:
            try:
                await connection.connect_within(limit)
            except ClientError as exc:
                return exc
            return None

    return await asyncio.gather(*map(connect, connections))


def _unknown(text: str, reached: Reached, jobs: list[Found]) -> JobLookupError:
    names = fold([one.name for one in reached.connections]) or "any host"
    latest = sorted(jobs, key=lambda one: one.info.started if one.info else 0)[::-1]
    there = f"; there are:{_listed(latest)}" if jobs else "; there is none at all"
    return JobLookupError(f"there is no job {visible(text)!r} on {names}{there}")


def _listed(jobs: Sequence[Found]) -> str:
    lines = [f"\n  {one}" for one in jobs[:MAX_CANDIDATES]]
    more = len(jobs) - MAX_CANDIDATES
    return "".join(lines) + (f"\n  and {more} more" if more > 0 else "")
