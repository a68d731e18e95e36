"""Which workers a subcommand is about, and which of them has a job."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, NamedTuple

import typer

from mlepool.cli.choosing import Choice
from mlepool.cli.crowds import fold
from mlepool.cli.exits import UNKNOWN
from mlepool.cli.lookup import Found, JobLookupError, choose, in_lines
from mlepool.cli.places import Place, local_places
from mlepool.cli.wording import complain, visible
from mlepool.client.connection import AsyncConnection
from mlepool.client.links.trust import Target
from mlepool.errors import ClientError, LocalProtocolError, MlepoolError
from mlepool.wire.values import StopReport

__all__ = [
    "NOT_SENT",
    "NoHostError",
    "Reached",
    "UnsureError",
    "leave",
    "open_chosen",
    "open_connection",
    "reach",
    "stop_job",
]

ANSWER_LIMIT = 30.0  # seconds for a worker to list its jobs
LOCAL_LIMIT = 5.0  # seconds for a worker on this machine to answer
LEAVE_LIMIT = 1.0  # seconds that a worker has to hear that we leave
MAX_DIALS = 100  # connections opened at once: more only wait for each other

# What a call raises that this worker can't be sent: too large, no text, a keyword that
# an older one does not know.
NOT_SENT = (LocalProtocolError, TypeError, ValueError)


class UnsureError(JobLookupError):
    """No job is meant, as far as it is known: not all hosts could be asked."""


class NoHostError(MlepoolError, LookupError):
    """No host fits a selector."""


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
            self._fail(connection, exc)
            return []
        infos = sorted(listener.value, key=lambda info: info.started)
        return [Found(connection, info.id, info) for info in infos]

    async def find(self, texts: Sequence[str]) -> list[Found]:
        """Find the jobs that ids, or beginnings of such, mean; each one once.

        Raises:
            JobLookupError: If there is none to a text, or more than one.
            UnsureError: If there is none, and a worker has failed that may have it.
        """
        jobs = await self.jobs()
        found = [await self._find(text, jobs) for text in texts]
        return list({(one.host, one.id): one for one in found}.values())

    async def latest(self) -> list[Found]:
        """Find the job of each host that has begun last.

        Raises:
            JobLookupError: If there is none at all.
            UnsureError: The same, where a worker has failed.
        """
        jobs = await self.jobs()
        if not jobs and self.failed:
            silent = fold(self.failed)
            raise UnsureError(f"no job is known; {silent} could not be asked")
        if not jobs:
            raise JobLookupError("no job is known there")
        return list({one.host: one for one in jobs}.values())

    async def _find(self, text: str, jobs: list[Found]) -> Found:
        found = choose(text, jobs)
        if found is not None:
            return found
        # Workers list the latest jobs; those before are found by the whole id.
        for connection in self._answering():
            try:
                (await connection.attach(text)).close()
            except LookupError:
                continue
            except ClientError as exc:
                self._fail(connection, exc)
            else:
                return Found(connection, text)
        raise self._none(text, jobs)

    def _answering(self) -> list[AsyncConnection]:
        return [one for one in self.connections if one.name not in self.failed]

    def _fail(self, connection: AsyncConnection, exc: Exception) -> None:
        why = str(exc) or f"no answer within {ANSWER_LIMIT:g} s"
        complain(f"{connection.name}: {why}")
        self.failed.append(connection.name)

    def _none(self, text: str, jobs: list[Found]) -> JobLookupError:
        """Make the error of a job that none of those who answer has."""
        asked, silent = fold([one.name for one in self._answering()]), fold(self.failed)
        job = f"job {visible(text)!r}"
        if not asked:
            return UnsureError(
                f"nobody could be asked for {job}; it may be on {silent}"
            )
        none = f"there is no {job} on {asked}"
        latest = sorted(jobs, key=lambda one: one.info.started if one.info else 0)[::-1]
        there = f"; there are:{in_lines(latest)}" if jobs else ""
        if silent:
            maybe = f"it may be on {silent}, which could not be asked"
            return UnsureError(f"{none}; {maybe}{there}")
        return JobLookupError(f"{none}{there or '; there is none at all'}")


@contextlib.asynccontextmanager
async def reach(choice: Choice) -> AsyncIterator[Reached]:
    """Connect to hosts, or to all workers of this machine; complain of the silent.

    Raises:
        Exit: If a job is looked for that only one of the silent may have.
    """
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
    except UnsureError as exc:
        complain(str(exc))
        raise typer.Exit(UNKNOWN) from None
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
