"""The jobs of workers, for completion: whoever answers soon enough."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from mlepool.cli.choosing import Choice
from mlepool.cli.places import Place, local_places
from mlepool.cli.reach import leave
from mlepool.cli.wording import visible
from mlepool.client.connection import AsyncConnection
from mlepool.errors import MlepoolError
from mlepool.wire.values import JobInfo

__all__ = ["jobs"]

LIMIT = 1.0  # seconds that somebody who types waits


def jobs(hosts: Sequence[str]) -> list[tuple[str, str, bool]]:
    """Give id, description and whether it runs, of jobs; the latest first.

    Args:
        hosts: As for ``-H``; none for the workers of this machine.
    """
    choice = Choice.of(hosts, "")
    places = local_places() if choice.is_empty else choice.places()
    found = asyncio.run(_ask_all(places))
    found.sort(key=lambda one: (one[1].outcome is None, one[1].started), reverse=True)
    return [
        (info.id, f"{host} {info.status} {visible(info.command)}", not info.outcome)
        for host, info in found
    ]


async def _ask_all(places: dict[str, Place]) -> list[tuple[str, JobInfo]]:
    asked = (_ask(name, place) for name, place in places.items())
    return [one for jobs in await asyncio.gather(*asked) for one in jobs]


async def _ask(name: str, place: Place) -> list[tuple[str, JobInfo]]:
    options = {**place.options, "name": name}
    connection = AsyncConnection(place.target, **options)
    try:
        async with asyncio.timeout(LIMIT):
            await connection.connect()
            listener = await connection.jobs(raise_error=True)
            return [(name, info) for info in listener.value]
    except (MlepoolError, TimeoutError):
        return []
    finally:
        await leave([connection])
