"""``mlepool attach``: follow a job from its first byte to its end."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from mlepool.cli.exits import INTERRUPTED, exit_status
from mlepool.cli.reach import Found, Hosts, reach
from mlepool.cli.records import RecordPrinter
from mlepool.cli.wording import come_back, complain
from mlepool.client.reader import Reader

__all__ = ["attach"]


def attach(
    job: Annotated[
        str, typer.Argument(metavar="JOB", help="Its id, or how that begins.")
    ],
    hosts: Hosts = None,
    *,
    offset: Annotated[
        int,
        typer.Option(min=0, help="Begin at the position of a listener of this job."),
    ] = 0,
) -> None:
    """Follow a job from its first byte on.

    What it has printed, then what it prints, as it is: stdout to stdout, stderr to
    stderr. Exits with the job's exit status: 128+n for signal n, 255 where it is not
    known. Ctrl-C leaves; the job goes on.
    """
    followed: list[Found] = []
    try:
        status = asyncio.run(_attach(job, hosts, offset, followed=followed))
    except KeyboardInterrupt:
        for one in followed:
            complain(come_back(one.id, one.host))
        raise typer.Exit(INTERRUPTED) from None
    raise typer.Exit(status)


async def _attach(
    text: str, hosts: list[str] | None, offset: int, *, followed: list[Found]
) -> int:
    async with reach(hosts) as reached:
        found = await reached.find(text)
        listener = await found.connection.attach(found.id, offset=offset, encoding=None)
        followed.append(found)
        printer = RecordPrinter()
        # Quiet: its failure is told by the exit status.
        reader = Reader(listener, quiet=True)
        while (records := await reader.next()) is not None:
            printer.take(records)
        followed.clear()
        return exit_status(listener, complain)
