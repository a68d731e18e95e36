"""``mlepool logs``: what a job has printed, from a worker or from a state folder."""

from __future__ import annotations

import asyncio
import re
import time
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from mlepool.cli.exits import INTERRUPTED
from mlepool.cli.journals import list_journals, print_journal
from mlepool.cli.reach import Found, Hosts, reach
from mlepool.cli.records import RecordPrinter, View
from mlepool.client.listening.reader import Reader
from mlepool.wire.records import HEADER_SIZE, STREAM_NAMES, Record

__all__ = ["logs", "read_since"]

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}  # seconds


def logs(
    job: Annotated[
        str, typer.Argument(metavar="JOB", help="Its id, or how that begins.")
    ] = "",
    hosts: Hosts = None,
    *,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Go on with what it prints now.")
    ] = False,
    tail: Annotated[
        int | None,
        typer.Option(min=0, help="The last so many lines.", show_default=False),
    ] = None,
    since: Annotated[
        str,
        typer.Option(
            help="What was printed since: 90s, 10m, 2h, 1d ago, or an ISO 8601 time.",
            show_default=False,
        ),
    ] = "",
    stream: Annotated[
        str, typer.Option(help="Only stdout, or only stderr.", show_default=False)
    ] = "",
    timestamps: Annotated[
        bool, typer.Option("-t", "--timestamps", help="When each line was printed.")
    ] = False,
    state_dir: Annotated[
        Path | None,
        typer.Option(
            help="Read a worker's state folder: no worker needs to run. Without JOB, "
            "list its jobs.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Print what a job has printed.

    As it is: stdout to stdout, stderr to stderr; --tail and -t work by lines.
    """
    view = View(read_since(since), _read_stream(stream), tail, timestamps=timestamps)
    if state_dir is not None:
        if hosts or follow:
            raise typer.BadParameter(
                "goes with neither -H nor -f", param_hint="--state-dir"
            )
        if job:
            print_journal(state_dir, job, RecordPrinter(view))
        else:
            list_journals(state_dir)
        return
    if not job:
        raise typer.BadParameter("name a job, or give --state-dir", param_hint="JOB")
    try:
        asyncio.run(_print(job, hosts, RecordPrinter(view), follow=follow))
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def read_since(text: str) -> float:
    """Read a time: so long ago, or ISO 8601, local where it names no zone.

    Returns:
        Seconds since the epoch; 0 for no text.
    """
    if not text:
        return 0.0
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if match:
        return time.time() - float(match[1]) * UNITS[match[2]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        raise typer.BadParameter(
            "give 90s, 10m, 2h, 1d or an ISO 8601 time", param_hint="--since"
        ) from None


def _read_stream(text: str) -> int | None:
    streams = {name: number for number, name in STREAM_NAMES.items()}
    if text and text not in streams:
        raise typer.BadParameter("stdout or stderr", param_hint="--stream")
    return streams.get(text)


async def _print(
    text: str, hosts: list[str] | None, printer: RecordPrinter, *, follow: bool
) -> None:
    async with reach(hosts) as reached:
        found = await reached.find(text)
        listener = await found.connection.attach(found.id, encoding=None)
        reader = Reader(listener, quiet=True)
        left = end = _end_of_history(found)
        while left > 0:
            records = await _next(reader, wait=listener.position < end)
            if records is None:
                break
            left -= sum(HEADER_SIZE + len(one.data) for one in records)
            printer.take(records)
        if follow:
            printer.end_history()
            while (records := await reader.next()) is not None:
                printer.take(records)
        printer.finish()


async def _next(reader: Reader, *, wait: bool) -> list[Record] | None:
    """Give the next records; None at the end, or if there are none at once."""
    if wait:
        return await reader.next()
    try:
        async with asyncio.timeout(0):
            return await reader.next()
    except TimeoutError:
        return None


def _end_of_history(found: Found) -> float:
    """Give where in its journal a job is now; no end for one that has ended."""
    if found.info is None or found.info.outcome is not None:
        return float("inf")
    return found.info.position
