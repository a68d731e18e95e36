"""``mlepool logs``: what a job has printed, from a worker or from a state folder."""

import asyncio
import re
import time
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from mlepool.cli.choosing import Choice, Hosts, Labels
from mlepool.cli.exits import INTERRUPTED, UNKNOWN
from mlepool.cli.journals import list_journals, print_journal
from mlepool.cli.lookup import Found
from mlepool.cli.reach import reach
from mlepool.cli.records import RecordPrinter, View, views
from mlepool.client.listening.reader import Reader
from mlepool.wire.records import HEADER_SIZE, STREAM_NAMES, Record

__all__ = ["logs", "read_since"]

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}  # seconds


def logs(
    jobs: Annotated[
        list[str] | None,
        typer.Argument(metavar="JOB", help="Ids, or how they begin."),
    ] = None,
    hosts: Hosts = None,
    *,
    selector: Labels = "",
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
    as_json: Annotated[
        bool, typer.Option("--json", help="An object for each line.")
    ] = False,
) -> None:
    """Print what a job has printed.

    Of one job as it is: stdout to stdout, stderr to stderr; --tail and -t work by
    lines. Where there are several, each line begins with its host's name. Without JOB
    it is the latest job of each host that -H or -l name: with 255 if one of them can't
    be reached. With JOB it is 255 if it may be on one that can't.
    """
    view = View(read_since(since), _read_stream(stream), tail, timestamps=timestamps)
    choice = Choice.of(hosts, selector)
    if state_dir is not None:
        if not choice.is_default or follow:
            raise typer.BadParameter(
                "goes with neither -H nor -f", param_hint="--state-dir"
            )
        _print_journals(state_dir, jobs or [], view, as_json=as_json)
        return
    if not jobs and choice.is_empty:
        raise typer.BadParameter(
            "name a job, or hosts, or give --state-dir", param_hint="JOB"
        )
    try:
        work = _print_all(jobs or [], choice, view, follow=follow, as_json=as_json)
        status = asyncio.run(work)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    raise typer.Exit(status)


def _print_journals(
    state_dir: Path, jobs: list[str], view: View, *, as_json: bool
) -> None:
    if not jobs:
        list_journals(state_dir)
    shown = views([(str(state_dir), job) for job in jobs], view, as_json=as_json)
    for job, one in zip(jobs, shown, strict=True):
        print_journal(state_dir, job, RecordPrinter(one._replace(prefixes={})))


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


async def _print_all(
    texts: list[str], choice: Choice, view: View, *, follow: bool, as_json: bool
) -> int:
    async with reach(choice) as reached:
        found = await (reached.find(texts) if texts else reached.latest())
        shown = views([(one.host, one.id) for one in found], view, as_json=as_json)
        pairs = zip(found, map(RecordPrinter, shown), strict=True)
        prints = [_print(one, printer, follow=follow) for one, printer in pairs]
        await asyncio.gather(*prints)
        # Who was named, and of whom nothing was to be found elsewhere, is missing.
        return UNKNOWN if reached.failed and not texts else 0


async def _print(found: Found, printer: RecordPrinter, *, follow: bool) -> None:
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
