"""``mlepool stop``: ends jobs, and says what is left of them."""

from __future__ import annotations

import asyncio
import math
import signal as signals
from typing import Annotated

import typer

from mlepool.cli.exits import FAILED, INTERRUPTED
from mlepool.cli.reach import Found, Hosts, reach, stop_job
from mlepool.cli.wording import complain, in_words
from mlepool.errors import MlepoolError

__all__ = ["signal_name", "stop"]


def stop(
    jobs: Annotated[
        list[str], typer.Argument(metavar="JOB...", help="Ids, or how they begin.")
    ],
    hosts: Hosts = None,
    *,
    signal: Annotated[
        str, typer.Option(help="What is sent first: SIGINT, INT or 2.")
    ] = "SIGINT",
    grace: Annotated[
        float, typer.Option(help="Seconds until SIGTERM, and again until SIGKILL.")
    ] = 10.0,
) -> None:
    """Stop jobs: all their processes, and say what became of them.

    Exits with 0 if all are dead, or were before; else with 1.
    """
    if not 0 <= grace < math.inf:
        raise typer.BadParameter("give seconds", param_hint="--grace")
    try:
        stopped = asyncio.run(
            _stop(jobs, hosts, signal=signal_name(signal), grace=grace)
        )
    except KeyboardInterrupt:
        complain("not waited for the end; what was asked of workers goes on")
        raise typer.Exit(INTERRUPTED) from None
    raise typer.Exit(0 if stopped else FAILED)


def signal_name(text: str) -> str:
    """Give a signal's full name; what is not known here is left to the worker."""
    if text.isdigit():
        try:
            return signals.Signals(int(text)).name
        except ValueError:
            raise typer.BadParameter(
                f"there is no signal {text}", param_hint="--signal"
            ) from None
    name = text.upper()
    return name if name.startswith("SIG") else f"SIG{name}"


async def _stop(
    texts: list[str], hosts: list[str] | None, *, signal: str, grace: float
) -> bool:
    async with reach(hosts) as reached:
        found = {one.id: one for one in [await reached.find(text) for text in texts]}
        stops = [_stop_one(one, signal, grace=grace) for one in found.values()]
        return all(await asyncio.gather(*stops))


async def _stop_one(found: Found, signal: str, *, grace: float) -> bool:
    """Stop one job; True if it is dead."""
    try:
        report = await stop_job(found.connection, found.id, signal, grace=grace)
    except MlepoolError as exc:
        complain(f"job {found.id} on {found.host}: {exc}")
        return False
    print(*in_words(report, found.host), sep="\n", flush=True)
    return report.complete
