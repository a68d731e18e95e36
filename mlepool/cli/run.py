"""``mlepool run``: one command on one host or many, live."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import sys
from typing import Annotated, Any

import typer

from mlepool.cli.printer import Printer
from mlepool.client.connection import AsyncConnection, new_job_id
from mlepool.client.listener import AsyncListener
from mlepool.client.trust import Target
from mlepool.errors import ClientError, CommandTimeoutError, MlepoolError

__all__ = ["run"]

NOT_EXECUTABLE = 126  # as shells do, and likewise the next
NOT_FOUND = 127
SIGNAL_BASE = 128  # 128 + n for a signal n, as shells do
UNKNOWN = 255  # as ssh: the command's own status is not known
INTERRUPTED = SIGNAL_BASE + signal.SIGINT
TIMED_OUT = SIGNAL_BASE + signal.SIGTERM


def run(
    command: Annotated[
        list[str],
        typer.Argument(
            help="The command. One argument goes to the shell; several are a program "
            "and its arguments. Put -- before a command that begins with a dash."
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
        bool, typer.Option("--detach", help="Start it, print its job id and leave.")
    ] = False,
) -> None:
    """Run a command on one host or many, live.

    Where there are several hosts, each line begins with its host's name. What the
    command writes to stderr goes to stderr. Its stdin is empty.

    Exits with the worst exit status of all hosts: 128+n for signal n, 255 for a host
    that can't be reached. Ctrl-C leaves the jobs running and prints their ids.
    """
    names = [name for group in hosts for name in group.split(",") if name]
    if not names:
        raise typer.BadParameter("no host is named", param_hint="-H")
    if timeout is not None and not 0 <= timeout < math.inf:
        raise typer.BadParameter("give seconds", param_hint="--timeout")
    # Bytes, since an argument may be a file's name that is no text.
    what = command[0] if len(command) == 1 else [os.fsencode(one) for one in command]
    keywords = {"cwd": cwd, "timeout": timeout, "detach": detach}
    given = {name: value for name, value in keywords.items() if value is not None}
    jobs = _Jobs(names, what, given, leave=detach)
    try:
        statuses = asyncio.run(jobs.run())
    except KeyboardInterrupt:
        jobs.say_what_goes_on()
        raise typer.Exit(INTERRUPTED) from None
    except OSError:  # nobody takes our output: a closed pipe, a full disk
        jobs.say_what_goes_on()
        raise
    raise typer.Exit(max(statuses))


class _Jobs:
    """One command on several hosts at once; a host named twice is one host."""

    def __init__(
        self, names: list[str], command: Any, keywords: dict[str, Any], *, leave: bool
    ) -> None:
        targets = {(target := Target.parse(name)).name: target for name in names}
        self._connections = [AsyncConnection(target) for target in targets.values()]
        self._command = command
        self._keywords = keywords
        self._leave = leave
        self._printer = Printer(list(targets) if len(targets) > 1 else [])
        self._going: dict[str, str] = {}

    async def run(self) -> list[int]:
        """Run on all; the exit status of each."""
        runs = (self._run_on(connection) for connection in self._connections)
        try:
            return await asyncio.gather(*runs)
        finally:
            # Not close(): what Ctrl-C leaves running is not to be stopped.
            for connection in self._connections:
                await connection.disconnect()

    def say_what_goes_on(self) -> None:
        """Name the jobs that were begun and have not ended."""
        for job_id, host in self._going.items():
            print(f"mlepool: job {job_id} goes on on {host}", file=sys.stderr)

    async def _run_on(self, connection: AsyncConnection) -> int:
        job_id = new_job_id()
        try:
            await connection.connect()
            return await self._follow(connection, job_id)
        except CommandTimeoutError as exc:
            self._printer.complain(connection.name, str(exc))
            if not exc.stopped:
                return UNKNOWN
            del self._going[job_id]
            return TIMED_OUT
        except MlepoolError as exc:
            self._printer.complain(connection.name, str(exc))
            if isinstance(exc, ClientError) and job_id in self._going:
                self._printer.complain(connection.name, f"job {job_id} goes on")
            return UNKNOWN

    async def _follow(self, connection: AsyncConnection, job_id: str) -> int:
        name = connection.name
        keywords = {**self._keywords, "complete": False}
        run = connection.find("run")
        # Entered before it is sent: Ctrl-C may come before the worker's answer.
        self._going[job_id] = name
        listener = await connection.call(run, (self._command,), keywords, job_id=job_id)
        was_begun = listener.error is None or listener.exit_code is not None
        if self._leave and was_begun:
            print(f"{name}: job {listener.id}")
            return 0
        async for batch in listener.batches():
            self._printer.print(name, batch)
        del self._going[job_id]
        return self._status(listener)

    def _status(self, listener: AsyncListener) -> int:
        code = listener.exit_code
        if code is not None:
            return SIGNAL_BASE - code if code < 0 else code
        self._printer.complain(listener.host, str(listener.error))
        kinds = {FileNotFoundError: NOT_FOUND, PermissionError: NOT_EXECUTABLE}
        for kind, status in kinds.items():
            if isinstance(listener.error, kind):
                return status
        return UNKNOWN
