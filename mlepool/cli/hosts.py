"""``mlepool hosts``: the workers that this account knows, and whether they answer."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from mlepool.client.connection import AsyncConnection
from mlepool.client.tables import Table
from mlepool.client.trust import Target, TrustStore, local_workers
from mlepool.errors import ClientError

__all__ = ["hosts"]

ANSWER_LIMIT = 3.0  # seconds that a worker has to answer

HEADERS = ("host", "address", "key", "known", "state")


def hosts(
    *,
    check: Annotated[
        bool, typer.Option(help="Connect to each and say if it answers.")
    ] = True,
) -> None:
    """Show the workers that are trusted, and those of this account on this machine."""
    known = [
        (Target(one.host, one.port, key=key, token=one.token), "trusted")
        for key, one in TrustStore().load().items()
    ]
    keys = {target.key for target, _ in known}
    known += [
        (Target("localhost", one.port, key=one.key, token=one.token()), "local")
        for one in local_workers()
        if one.key not in keys
    ]
    states = asyncio.run(_states([target for target, _ in known], check=check))
    rows = [
        (target.name, f"{target.host}:{target.port}", target.key[:12], how, state)
        for (target, how), state in zip(known, states, strict=True)
    ]
    print(Table(HEADERS, rows) if rows else "no worker is known; see 'mlepool trust'")


async def _states(targets: list[Target], *, check: bool) -> list[str]:
    if not check:
        return ["not checked"] * len(targets)
    return await asyncio.gather(*(_state(target) for target in targets))


async def _state(target: Target) -> str:
    connection = AsyncConnection(target, enter_connect_timeout=ANSWER_LIMIT)
    try:
        async with connection:
            state = connection.state
            return f"up ({state['name']}, mlepool {state['version']})"
    except ClientError as exc:
        return f"down ({getattr(exc, 'cause', exc)})"
