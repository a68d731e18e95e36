"""``mlepool run``: one command on one host or many, live."""

from __future__ import annotations

import asyncio
import importlib
import io
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from mlepool.cli.exits import INTERRUPTED, TIMED_OUT, UNKNOWN, exit_status
from mlepool.cli.interrupts import Interrupts
from mlepool.cli.printer import Printer
from mlepool.cli.reach import leave, open_connection, split_hosts, stop_job
from mlepool.cli.streams import drop_stdout
from mlepool.cli.tee import Tee
from mlepool.cli.wording import come_back, complain, folder_of, in_words
from mlepool.client.connection import AsyncConnection, new_job_id
from mlepool.client.links.trust import Target
from mlepool.client.listening.sources import chunks
from mlepool.errors import ClientError, CommandTimeoutError, MlepoolError

__all__ = ["run"]

LINGER = 2.0  # seconds for the second Ctrl-C, which stops the jobs
STOP_GRACE = 5.0  # seconds between the signals of that stop
PIPE_GRACE = 2.0  # seconds after SIGPIPE, where our output's reader has gone away
STOP_LIMIT = 30.0  # seconds that workers may take to say that jobs are dead


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
    stdin: Annotated[
        bool, typer.Option("-i", "--stdin", help="Feed our stdin to it, on each host.")
    ] = False,
    tty: Annotated[
        bool, typer.Option("-t", "--tty", help="Give it a terminal, connected to ours.")
    ] = False,
    sync: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Sync this folder first, to --cwd or a folder of its name, and run "
            "in it.",
            show_default=False,
        ),
    ] = None,
    collect: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="Bring back files that it leaves; repeatable. They come to --sync's "
            "folder, or here; of several hosts each to a folder of its name.",
            show_default=False,
        ),
    ] = None,
    priority: Annotated[
        int | None,
        typer.Option(
            help="Where jobs wait in line, higher ones go first.", show_default=False
        ),
    ] = None,
    queue: Annotated[
        bool,
        typer.Option("--queue/--no-queue", help="Wait in line, or fail if it has to."),
    ] = True,
    gpus: Annotated[
        int | None,
        typer.Option(help="How many GPUs it is to have.", show_default=False),
    ] = None,
) -> None:
    """Run a command on one host or many, live.

    Where there are several hosts, each line begins with its host's name. What the
    command writes to stderr goes to stderr. Its stdin is empty without -i and -t.

    Exits with the worst exit status of all hosts: 128+n for signal n, 255 for a host
    that can't be reached. Ctrl-C leaves the jobs running and says how to come back; a
    second one stops them.
    """
    targets = split_hosts(hosts)
    if timeout is not None and not 0 <= timeout < math.inf:
        raise typer.BadParameter("give seconds", param_hint="--timeout")
    # Bytes, since an argument may be a file's name that is no text.
    what = command[0] if len(command) == 1 else [os.fsencode(one) for one in command]
    keywords: dict[str, Any] = {"cwd": cwd, "timeout": timeout, "detach": detach}
    keywords |= {"sync": sync, "collect": collect or None}
    keywords |= {"priority": priority, "gpus": gpus, "queue": None if queue else False}
    given = {name: value for name, value in keywords.items() if value is not None}
    if tty:
        raise typer.Exit(_run_at_terminal(targets, what, given))
    jobs = _Jobs(targets, what, given, leave=detach, feeds=stdin)
    status: Any
    try:
        status = asyncio.run(jobs.run())
    except BrokenPipeError:  # the jobs were stopped
        raise
    except OSError:  # a full disk
        drop_stdout()  # what it did not take would be in the way again
        jobs.say_what_goes_on()
        raise
    except (KeyboardInterrupt, SystemExit) as exc:  # nobody reads; told to end
        drop_stdout()
        jobs.say_what_goes_on()
        status = exc.code if isinstance(exc, SystemExit) else INTERRUPTED
    raise typer.Exit(status)


def _run_at_terminal(
    targets: dict[str, Target], command: Any, keywords: dict[str, Any]
) -> int:
    if len(targets) > 1 or keywords.pop("detach") or {"sync", "collect"} & {*keywords}:
        text = "it goes with one host, and not with --detach, --sync or --collect"
        raise typer.BadParameter(text, param_hint="--tty")
    # Not at the top: a Windows client has no termios.
    terminal = importlib.import_module("mlepool.cli.terminal")
    if not terminal.are_terminals():
        text = "stdin and stdout must be a terminal; -i feeds what is none"
        raise typer.BadParameter(text, param_hint="--tty")
    [(name, target)] = targets.items()
    status: int = terminal.run_at_terminal(
        name, target, command=command, keywords=keywords
    )
    return status


def _our_stdin() -> io.RawIOBase:
    """Open stdin without a buffer: a thread that waits in one is in our way out."""
    return io.FileIO(sys.stdin.fileno(), closefd=False)


class _Jobs:
    """One command on several hosts at once."""

    def __init__(
        self,
        targets: dict[str, Target],
        command: Any,
        keywords: dict[str, Any],
        *,
        leave: bool,
        feeds: bool = False,
    ) -> None:
        self._connections = [
            open_connection(target, name) for name, target in targets.items()
        ]
        self._command = command
        sync = keywords.pop("sync", None)
        self._sync = None if sync is None else Path(sync).absolute()
        self._keywords = keywords
        self._leave = leave
        self._tee = Tee(chunks(_our_stdin(), "utf-8")) if feeds else None
        self._printer = Printer(list(targets) if len(targets) > 1 else [])
        self._going: dict[str, AsyncConnection] = {}

    async def run(self) -> int:
        """Run on all; the worst exit status."""
        with Interrupts() as interrupts:
            try:
                status = await interrupts.unless_pressed(self._run_on_all())
                if status is None:
                    await self._interrupted(interrupts)
                return INTERRUPTED if status is None else status
            except BrokenPipeError:
                # As in a shell: who writes into a pipe that nobody reads is ended.
                await self._stop_all("SIGPIPE", grace=PIPE_GRACE)
                raise
            finally:
                # Not close(): what Ctrl-C leaves running is not to be stopped.
                await leave(self._connections)

    def say_what_goes_on(self) -> None:
        """Name the jobs that were begun and have not ended."""
        for job_id, connection in self._going.items():
            complain(come_back(job_id, connection.name))

    async def _run_on_all(self) -> int:
        runs = [self._run_on(*self._fed(one)) for one in self._connections]
        return max(await asyncio.gather(*runs))

    def _fed(self, connection: AsyncConnection) -> tuple[AsyncConnection, Any]:
        return connection, None if self._tee is None else self._tee.branch()

    async def _interrupted(self, interrupts: Interrupts) -> None:
        """Say what goes on, and stop it if Ctrl-C comes again soon."""
        if not self._going:
            return
        self.say_what_goes_on()
        what = "it" if len(self._going) == 1 else "them"
        complain(f"press Ctrl-C again within {LINGER:g} s to stop {what}")
        if await interrupts.unless_pressed(_linger()):
            return
        complain(f"stopping {what}")
        stop = self._stop_all("SIGINT", grace=STOP_GRACE)
        reports = await interrupts.unless_pressed(stop)
        for line in reports or ["not waited for the end of the stop"]:
            complain(line)

    async def _stop_all(self, signal: str, *, grace: float) -> list[str]:
        """Stop what was begun and has not ended; say what became of it."""
        stops = [
            self._stop(job_id, connection, signal, grace=grace)
            for job_id, connection in self._going.items()
        ]
        return [line for lines in await asyncio.gather(*stops) for line in lines]

    async def _stop(
        self, job_id: str, connection: AsyncConnection, signal: str, *, grace: float
    ) -> Sequence[str]:
        try:
            async with asyncio.timeout(STOP_LIMIT):
                report = await stop_job(connection, job_id, signal, grace=grace)
        except (MlepoolError, TimeoutError) as exc:
            why = str(exc) or f"no answer within {STOP_LIMIT:g} s"
            return [f"job {job_id} on {connection.name} could not be stopped: {why}"]
        return in_words(report, connection.name)

    async def _run_on(self, connection: AsyncConnection, branch: Any) -> int:
        name, job_id = connection.name, new_job_id()
        try:
            await connection.connect()
            return await self._follow(connection, job_id, branch)
        except CommandTimeoutError as exc:
            self._printer.complain(name, str(exc))
            if not exc.stopped:
                return UNKNOWN
            del self._going[job_id]
            return TIMED_OUT
        except MlepoolError as exc:
            self._printer.complain(name, str(exc))
            if isinstance(exc, ClientError) and job_id in self._going:
                self._printer.complain(name, come_back(job_id, name))
            return UNKNOWN
        finally:
            if branch is not None:
                branch.close()

    async def _follow(
        self, connection: AsyncConnection, job_id: str, branch: Any
    ) -> int:
        name = connection.name
        keywords = {**self._keywords, "complete": False, "input": branch}
        keywords |= await self._with_files(connection)
        run = connection.find("run")
        # Entered before it is sent: Ctrl-C may come before the worker's answer.
        self._going[job_id] = connection
        listener = await connection.call(run, (self._command,), keywords, job_id=job_id)
        was_begun = listener.error is None or listener.exit_code is not None
        if listener.place:
            self._printer.complain(name, f"it waits in line: place {listener.place}")
        if self._leave and was_begun:
            print(f"{name}: job {listener.id}", flush=True)
            return 0
        async for batch in listener.batches():
            self._printer.print(name, batch)
        del self._going[job_id]
        return exit_status(listener, lambda text: self._printer.complain(name, text))

    async def _with_files(self, connection: AsyncConnection) -> dict[str, Any]:
        """Sync what it is to run in; give the keywords about files."""
        keywords: dict[str, Any] = {}
        if self._sync is not None:
            place = self._keywords.get("cwd") or self._sync.name or "."
            done = await connection.sync(self._sync, place, raise_error=True)
            keywords = {"cwd": place, "tree": done.value.digest}
        if self._keywords.get("collect"):
            several = folder_of(connection) if len(self._connections) > 1 else ""
            keywords["collect_to"] = Path(self._sync or "", several)
        return keywords


async def _linger() -> bool:
    await asyncio.sleep(LINGER)
    return True
