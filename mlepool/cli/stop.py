"""``mlepool stop``: ends jobs, and says what is left of them."""

import asyncio
import json
import math
from typing import Annotated, Any, NamedTuple

import typer
from msgspec import structs

from mlepool.cli.choosing import Choice, Hosts, Labels
from mlepool.cli.exits import FAILED, INTERRUPTED, UNKNOWN
from mlepool.cli.lookup import Found
from mlepool.cli.reach import Reached, reach, stop_job
from mlepool.cli.wording import complain, in_words
from mlepool.errors import MlepoolError
from mlepool.signals import signal_name
from mlepool.wire.values import StopReport

__all__ = ["stop"]


class _How(NamedTuple):
    """How jobs are stopped, and how that is told."""

    signal: str
    grace: float
    as_json: bool


def stop(
    jobs: Annotated[
        list[str] | None,
        typer.Argument(metavar="JOB", help="Ids, or how they begin."),
    ] = None,
    hosts: Hosts = None,
    *,
    selector: Labels = "",
    everything: Annotated[
        bool, typer.Option("--all", help="All jobs of the hosts that are named.")
    ] = False,
    signal: Annotated[
        str, typer.Option(help="What is sent first: SIGINT, INT or 2.")
    ] = "SIGINT",
    grace: Annotated[
        float, typer.Option(help="Seconds until SIGTERM, and again until SIGKILL.")
    ] = 10.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="An object for each job, one a line.")
    ] = False,
) -> None:
    """Stop jobs: all their processes, and say what became of them.

    Exits with 0 if all are dead, or were before; else with 1. With --all it exits with
    255 if a host can't be reached; with JOB, if it may be there.
    """
    if not 0 <= grace < math.inf:
        raise typer.BadParameter("give seconds", param_hint="--grace")
    choice = Choice.of(hosts, selector)
    if bool(jobs) == everything or (everything and choice.is_empty):
        text = "name jobs, or hosts with --all"
        raise typer.BadParameter(text, param_hint="JOB")
    how = _How(_signal(signal), grace, as_json)
    try:
        status = asyncio.run(_stop(jobs, choice, how))
    except KeyboardInterrupt:
        complain("not waited for the end; what was asked of workers goes on")
        raise typer.Exit(INTERRUPTED) from None
    raise typer.Exit(status)


def _signal(text: str) -> str:
    """Give a signal's full name; what is not known here is left to the worker."""
    try:
        return signal_name(int(text) if text.isdigit() else text)
    except ValueError as exc:
        raise typer.BadParameter(str(exc), param_hint="--signal") from None


async def _stop(texts: list[str] | None, choice: Choice, how: _How) -> int:
    async with reach(choice) as reached:
        found = await (reached.find(texts) if texts else _running(reached))
        stopped = await asyncio.gather(*(_stop_one(one, how) for one in found))
        if reached.failed and not texts:
            return UNKNOWN
        return 0 if all(stopped) else FAILED


async def _running(reached: Reached) -> list[Found]:
    jobs = await reached.jobs()
    return [one for one in jobs if one.info is not None and one.info.outcome is None]


async def _stop_one(found: Found, how: _How) -> bool:
    """Stop one job; True if it is dead."""
    try:
        report = await stop_job(found.connection, found.id, how.signal, grace=how.grace)
    except MlepoolError as exc:
        complain(f"job {found.id} on {found.host}: {exc}")
        return False
    if how.as_json:
        print(json.dumps(_in_json(report, found.host)), flush=True)
    else:
        print(*in_words(report, found.host), sep="\n", flush=True)
    return report.complete


def _in_json(report: StopReport, host: str) -> dict[str, Any]:
    facts = {"host": host, **structs.asdict(report), "complete": report.complete}
    for name in ("signalled", "survivors"):
        facts[name] = [structs.asdict(one) for one in getattr(report, name)]
    return facts
