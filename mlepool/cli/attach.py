"""``mlepool attach``: follow a job from its first byte to its end."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from mlepool.cli.exits import INTERRUPTED, exit_status
from mlepool.cli.reach import Found, Hosts, reach
from mlepool.cli.records import RecordPrinter
from mlepool.cli.wording import come_back, complain
from mlepool.client.listening.reader import Reader

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
    collect_to: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Bring what it was run to --collect here, at its end.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Follow a job from its first byte on.

    What it has printed, then what it prints, as it is: stdout to stdout, stderr to
    stderr. Exits with the job's exit status: 128+n for signal n, 255 where it is not
    known. Ctrl-C leaves; the job goes on.
    """
    followed: list[Found] = []
    try:
        keywords = {"offset": offset, "collect_to": collect_to}
        status = asyncio.run(_attach(job, hosts, keywords, followed=followed))
    except KeyboardInterrupt:
        for one in followed:
            complain(come_back(one.id, one.host))
        raise typer.Exit(INTERRUPTED) from None
    raise typer.Exit(status)


async def _attach(
    text: str,
    hosts: list[str] | None,
    keywords: dict[str, Any],
    *,
    followed: list[Found],
) -> int:
    async with reach(hosts) as reached:
        found = await reached.find(text)
        if found.info is not None and found.info.files.tree:
            complain(f"job {found.id} runs the tree {found.info.files.tree}")
        attach = found.connection.attach
        listener = await attach(found.id, encoding=None, **keywords)
        followed.append(found)
        printer = RecordPrinter()
        # Quiet: its failure is told by the exit status.
        reader = Reader(listener, quiet=True)
        while (records := await reader.next()) is not None:
            printer.take(records)
        followed.clear()
        return exit_status(listener, complain)
