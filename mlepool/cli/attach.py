"""``mlepool attach``: follow jobs from their first byte to their end."""

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

from mlepool.cli.choosing import Choice, Hosts, Labels
from mlepool.cli.exits import INTERRUPTED, exit_status
from mlepool.cli.lookup import Found
from mlepool.cli.reach import reach
from mlepool.cli.records import RecordPrinter, views
from mlepool.cli.wording import come_back, complain
from mlepool.client.files.places import folder_of
from mlepool.client.listening.reader import Reader

__all__ = ["attach"]


def attach(
    jobs: Annotated[
        list[str], typer.Argument(metavar="JOB", help="Ids, or how they begin.")
    ],
    hosts: Hosts = None,
    *,
    selector: Labels = "",
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
    as_json: Annotated[
        bool, typer.Option("--json", help="An object for each line.")
    ] = False,
) -> None:
    """Follow a job from its first byte on.

    What it has printed, then what it prints, as it is: stdout to stdout, stderr to
    stderr. Where there are several, each line begins with its host's name, and what
    they --collect comes to folders of their hosts' names. Exits with the worst exit
    status of all: 128+n for signal n, 255 where it is not known. Ctrl-C leaves; the
    jobs go on.
    """
    if offset and len(jobs) > 1:
        raise typer.BadParameter("goes with one job", param_hint="--offset")
    following = _Following(collect_to, offset=offset, as_json=as_json)
    try:
        status = asyncio.run(following.run(jobs, Choice.of(hosts, selector)))
    except KeyboardInterrupt:
        for one in following.going:
            complain(come_back(one.id, one.host))
        raise typer.Exit(INTERRUPTED) from None
    raise typer.Exit(status)


class _Following:
    """Several jobs that are followed to their ends.

    Attributes:
        going: Those that have begun to be followed and have not ended.
    """

    def __init__(self, collect_to: str | None, *, offset: int, as_json: bool) -> None:
        self.going: list[Found] = []
        self._collect_to = collect_to
        self._offset = offset
        self._as_json = as_json

    async def run(self, texts: list[str], choice: Choice) -> int:
        """Follow all; the worst exit status."""
        async with reach(choice) as reached:
            found = await reached.find(texts)
            shown = views([(one.host, one.id) for one in found], as_json=self._as_json)
            pairs = zip(found, map(RecordPrinter, shown), strict=True)
            several = len(found) > 1
            follows = [self._follow(*pair, several=several) for pair in pairs]
            return max(await asyncio.gather(*follows))

    async def _follow(
        self, found: Found, printer: RecordPrinter, *, several: bool
    ) -> int:
        if found.info is not None and found.info.files.tree:
            complain(f"job {found.id} runs the tree {found.info.files.tree}")
        keywords: dict[str, Any] = {"offset": self._offset}
        if self._collect_to is not None:
            folder = folder_of(found.connection.name) if several else ""
            keywords["collect_to"] = str(Path(self._collect_to, folder))
        attach = found.connection.attach
        listener = await attach(found.id, encoding=None, **keywords)
        self.going.append(found)
        # Quiet: its failure is told by the exit status.
        reader = Reader(listener, quiet=True)
        while (records := await reader.next()) is not None:
            printer.take(records)
        printer.finish()
        self.going.remove(found)
        return exit_status(listener, complain)
