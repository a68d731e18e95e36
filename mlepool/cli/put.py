"""``mlepool put`` and ``mlepool get``: files to hosts, and from them."""

import os
from typing import Annotated

import typer

from mlepool.cli.choosing import Choice, Hosts, Labels
from mlepool.cli.transfers import Shown, transfer
from mlepool.client.connection import AsyncConnection
from mlepool.client.listening.listener import AsyncListener

__all__ = ["get", "put"]

Plan = Annotated[
    bool, typer.Option("-n", "--dry-run", help="Print what would be done.")
]
Verbose = Annotated[
    bool, typer.Option("-v", "--verbose", help="A line for each change.")
]
Json = Annotated[
    bool, typer.Option("--json", help="An object for each host, one a line.")
]


def put(
    sources: Annotated[
        list[str], typer.Argument(metavar="SOURCE", help="Files and folders here.")
    ],
    dest: Annotated[str, typer.Argument(metavar="DEST", help="Where on the hosts.")],
    hosts: Hosts = None,
    *,
    selector: Labels = "",
    plan: Plan = False,
    verbose: Verbose = False,
    as_json: Json = False,
) -> None:
    """Put files and folders on hosts.

    If DEST is a folder, ends with / or gets several, they are put into it under their
    own names, as with cp. Each file is replaced as a whole.

    Exits with 1 if something could not be put, with 255 if a host can't be reached.
    """
    source = sources if len(sources) > 1 else sources[0]

    async def begin(connection: AsyncConnection, folder: str) -> AsyncListener:
        return await connection.put(source, dest, dry_run=plan, complete=False)

    choice = Choice.of(hosts, selector)
    raise typer.Exit(transfer(choice, begin, Shown(verbose, plan, as_json)))


def get(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE", help="Files and folders of the hosts."),
    ],
    dest: Annotated[
        str, typer.Argument(metavar="DEST", help="Where they are put here.")
    ],
    hosts: Hosts = None,
    *,
    selector: Labels = "",
    plan: Plan = False,
    verbose: Verbose = False,
    as_json: Json = False,
) -> None:
    """Get files and folders from hosts.

    As put, the other way round. What comes from one of several hosts is put into a
    folder of DEST with the host's name.

    Exits with 1 if something could not be got, with 255 if a host can't be reached.
    """
    source = sources if len(sources) > 1 else sources[0]

    async def begin(connection: AsyncConnection, folder: str) -> AsyncListener:
        to = os.path.join(dest, folder, "") if folder else dest
        return await connection.get(source, to, dry_run=plan, complete=False)

    choice = Choice.of(hosts, selector)
    raise typer.Exit(transfer(choice, begin, Shown(verbose, plan, as_json)))
