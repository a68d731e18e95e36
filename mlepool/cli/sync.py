"""``mlepool sync``: makes a folder elsewhere like one here, or the other way round."""

import os
from typing import Annotated, Any

import typer

from mlepool.cli.choosing import Choice, Hosts, Labels
from mlepool.cli.transfers import Begin, Shown, transfer
from mlepool.client.connection import AsyncConnection
from mlepool.client.files.sharing import SyncOptions, share_sync
from mlepool.client.listening.listener import AsyncListener
from mlepool.client.options import CallOptions

__all__ = ["sync"]


def sync(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="Its contents are read.")
    ],
    dest: Annotated[str, typer.Argument(metavar="DEST", help="It becomes like that.")],
    hosts: Hosts = None,
    *,
    selector: Labels = "",
    pull: Annotated[
        bool, typer.Option("--pull", help="From the hosts; SOURCE is theirs.")
    ] = False,
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete what SOURCE has not; to a trash.")
    ] = False,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="Leave out what fits; as a line of .gitignore. Repeatable.",
            show_default=False,
        ),
    ] = None,
    plan: Annotated[
        bool, typer.Option("-n", "--dry-run", help="Print what would be done.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="A line for each change.")
    ] = False,
    checksum: Annotated[
        bool, typer.Option("--checksum", help="Compare content, not size and time.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also where it looks like a mistake.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on: what changes here follows.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="An object for each host, one a line.")
    ] = False,
) -> None:
    """Make a folder on hosts like one here, or one here like theirs.

    Only what differs is sent. What .gitignore and .mlepoolignore files name is left
    out. Nothing changes before all is there; Ctrl-C leaves all as it was. With --watch
    each change is printed as it follows, until Ctrl-C.

    Exits with 1 if something could not be synced, with 255 if a host can't be reached.
    """
    for name, path in (("SOURCE", source), ("DEST", dest)):
        if not path:
            text = "it is empty; the current folder is '.'"
            raise typer.BadParameter(text, param_hint=name)
    options: dict[str, Any] = {
        "delete": delete,
        "exclude": tuple(exclude or ()),
        "dry_run": plan,
        "checksum": checksum,
        "force": force,
    }
    if pull or watch:
        begin = _begin_each(source, dest, options, pull=pull, watch=watch)
    else:
        begin = _begin_shared(source, dest, options)
    choice = Choice.of(hosts, selector)
    shown = Shown(verbose or watch, plan, as_json)
    raise typer.Exit(transfer(choice, begin, shown))


def _begin_each(
    source: str, dest: str, options: dict[str, Any], *, pull: bool, watch: bool
) -> Begin:
    """Give what begins a sync that is one host's alone."""

    async def begin(connection: AsyncConnection, folder: str) -> AsyncListener:
        to = os.path.join(dest, folder) if pull else dest
        return await connection.sync(
            source, to, pull=pull, watch=watch, complete=False, **options
        )

    return begin


def _begin_shared(source: str, dest: str, options: dict[str, Any]) -> Begin:
    """Give what begins a sync to one of the hosts: the folder is read once for all."""
    start = share_sync(
        source,
        dest,
        sync_options=SyncOptions(**options),
        options=CallOptions(complete=False),
    )

    async def begin(connection: AsyncConnection, _folder: str) -> AsyncListener:
        return await connection.run_here(start)

    return begin
