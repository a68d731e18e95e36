"""``mlepool run``: one command on one host or many, live."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Annotated, Any

import typer

from mlepool.cli.printer import Printer
from mlepool.client.connection import AsyncConnection
from mlepool.client.listener import AsyncListener
from mlepool.client.pool import AsyncClientPool
from mlepool.errors import ClientError, MlepoolError

__all__ = ["run"]

UNREACHABLE = 255  # as ssh: the command's own status is not known
SIGNAL_BASE = 128  # 128 + n for a signal n, as shells do
INTERRUPTED = SIGNAL_BASE + signal.SIGINT


def run(
    command: Annotated[
        list[str],
        typer.Argument(
            help="The command, after --. One argument goes to the shell; several are "
            "a program and its arguments."
        ),
    ],
    hosts: Annotated[
        list[str], typer.Option("-H", "--host", help="HOST[,HOST...]; repeatable.")
    ],
    *,
    cwd: Annotated[
        str | None, typer.Option(help="Where it runs.", show_default=False)
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(help="Seconds until it is stopped.", show_default=False),
    ] = None,
    detach: Annotated[
        bool, typer.Option(help="Start it, print its job id and leave.")
    ] = False,
) -> None:
    """Run a command on hosts, with their output live, each line with its host.

    Exits with the worst exit status of all hosts: 128+n for signal n, 255 for a host
    that can't be reached. Ctrl-C leaves the jobs running and prints their ids.
    """
    names = [name for group in hosts for name in group.split(",") if name]
    if not names:
        raise typer.BadParameter("no host is named", param_hint="-H")
    what = command[0] if len(command) == 1 else command
    keywords = {"cwd": cwd, "timeout": timeout, "detach": detach}
    given = {name: value for name, value in keywords.items() if value}
    jobs = _Jobs(names, what, given, leave=detach)
    try:
        statuses = asyncio.run(jobs.run())
    except KeyboardInterrupt:
        jobs.say_how_to_come_back()
        raise typer.Exit(INTERRUPTED) from None
    raise typer.Exit(max(statuses))


class _Jobs:
    """One command on several hosts at once."""

    def __init__(
        self, names: list[str], command: Any, keywords: dict[str, Any], *, leave: bool
    ) -> None:
        self._pool = AsyncClientPool()
        self._connections = [self._pool.add(name) for name in names]
        self._command = command
        self._keywords = keywords
        self._leave = leave
        prefixes = [one.name for one in self._connections]
        self._printer = Printer(prefixes if len(names) > 1 else [])
        self._listeners: list[AsyncListener] = []

    async def run(self) -> list[int]:
        """Run on all; the exit status of each."""
        runs = (self._run_on(connection) for connection in self._connections)
        try:
            return await asyncio.gather(*runs)
        finally:
            # Not close(): what Ctrl-C leaves running is not to be stopped.
            for connection in self._connections:
                await connection.disconnect()

    def say_how_to_come_back(self) -> None:
        """Name the jobs that go on."""
        for listener in self._listeners:
            if listener.exit_code is None:
                text = f"job {listener.id} goes on on {listener.host}"
                print(f"mlepool: {text}", file=sys.stderr)

    async def _run_on(self, connection: AsyncConnection) -> int:
        name = connection.name
        try:
            await connection.connect()
            listener = await connection.run(
                self._command, complete=False, **self._keywords
            )
            self._listeners.append(listener)
            if self._leave:
                print(f"{name}: job {listener.id}")
                return 0
            async for batch in listener.batches():
                self._printer.print(name, batch)
            return self._status(listener)
        except (ClientError, OSError) as exc:
            self._printer.complain(name, str(exc))
            return UNREACHABLE
        except MlepoolError as exc:
            self._printer.complain(name, str(exc))
            return SIGNAL_BASE + signal.SIGTERM

    def _status(self, listener: AsyncListener) -> int:
        code = listener.exit_code
        if code is None:
            self._printer.complain(listener.host, str(listener.error))
            return UNREACHABLE
        return SIGNAL_BASE - code if code < 0 else code
