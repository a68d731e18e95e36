"""``mlepool jobs``: what runs on workers, and what has run."""

import asyncio
import json
import shutil
import sys
from typing import Annotated, Any

import typer

from mlepool.cli.choosing import Choice, Hosts, Labels
from mlepool.cli.exits import UNKNOWN
from mlepool.cli.lookup import Found
from mlepool.cli.reach import Reached, reach
from mlepool.cli.wording import ago, clock, visible
from mlepool.client.tables import Table
from mlepool.wire.values import JobInfo

__all__ = ["in_json", "jobs", "table"]

HEADERS = ("id", "host", "status", "exit", "started", "time", "pid", "tree", "command")
TREE = 12  # digits of a tree's digest that are shown
HEAD_PADDING = 2  # characters by which tabulate makes a column wider than its head
MIN_COMMAND = 20  # characters of a command that are shown on the narrowest terminal


def jobs(
    hosts: Hosts = None,
    *,
    selector: Labels = "",
    everything: Annotated[
        bool, typer.Option("--all", help="Those that have ended, too.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON array of all facts.")
    ] = False,
) -> None:
    """List the jobs of workers.

    Those that run, and those that wait, with their place in line; with --all also the
    latest that have ended.

    Exits with 255 if a host that was named can't be reached.
    """
    reached, found = asyncio.run(_list(Choice.of(hosts, selector)))
    shown = [
        (one.host, one.info)
        for one in found
        if one.info is not None and (everything or one.info.outcome is None)
    ]
    if as_json:
        print(json.dumps([in_json(host, info) for host, info in shown], indent=2))
    elif shown:
        print(table(shown))
    elif reached.connections:
        print("no job is known" if everything else "no job runs; see --all")
    unreached = reached.failed if hosts or selector or not reached.connections else []
    raise typer.Exit(UNKNOWN if unreached else 0)


def in_json(host: str, info: JobInfo) -> dict[str, Any]:
    """Give what is known of a job, for ``--json``: times in seconds since the epoch."""
    outcome = info.outcome
    return {
        "id": info.id,
        "host": host,
        "status": info.status,
        "place": info.place,
        "priority": info.priority,
        "gpus": list(info.gpus),
        "exit_code": None if outcome is None else outcome.exit_code,
        "reason": "" if outcome is None else outcome.reason,
        "started": info.started,
        "ended": None if outcome is None else outcome.ended,
        "duration": info.duration,
        "pid": info.pid,
        "command": info.command,
        "cwd": info.cwd,
        "tree": info.files.tree,
        "collect": list(info.files.collect),
    }


def table(jobs: list[tuple[str, JobInfo]]) -> str:
    """Make a table of hosts and their jobs; on a terminal as wide as that."""
    rows = [_row(host, info) for host, info in jobs]
    if sys.stdout.isatty():
        heads = [head + " " * HEAD_PADDING for head in HEADERS[:-1]]
        columns = list(zip(heads, *(row[:-1] for row in rows), strict=True))
        taken = sum(max(map(len, column)) + 2 for column in columns)
        room = max(MIN_COMMAND, shutil.get_terminal_size().columns - taken)
        rows = [(*row[:-1], _cut(row[-1], room)) for row in rows]
    return str(Table(HEADERS, rows))


def _row(host: str, info: JobInfo) -> tuple[str, ...]:
    code = None if info.outcome is None else info.outcome.exit_code
    return (
        info.id,
        host,
        f"{info.status} {info.place}" if info.place else info.status,
        "" if code is None else str(code),
        clock(info.started),
        ago(info.duration),
        str(info.pid or ""),
        info.files.tree[:TREE],
        visible(info.command),
    )


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: room - 3]}..."


async def _list(choice: Choice) -> tuple[Reached, list[Found]]:
    async with reach(choice) as reached:
        return reached, await reached.jobs()
