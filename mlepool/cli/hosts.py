"""``mlepool hosts``: the workers that this account knows, and whether they answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Annotated, NamedTuple

import typer

from mlepool.client.connection import AsyncConnection
from mlepool.client.links.trust import Target, TrustStore, local_workers
from mlepool.client.tables import Table
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
    """Show the workers that this account knows.

    Those that it trusts, and its own on this machine, with what each answers.
    """
    known = list(_known())
    states = asyncio.run(_states([one.dialled for one in known], check=check))
    rows = [
        (one.host, one.address, one.key[:12], one.how, state)
        for one, state in zip(known, states, strict=True)
    ]
    print(Table(HEADERS, rows) if rows else "no worker is known; see 'mlepool trust'")


class _Known(NamedTuple):
    """A row, and how its worker is reached."""

    host: str
    address: str
    key: str
    how: str
    dialled: Target


def _known() -> Iterator[_Known]:
    trusted = TrustStore().load()
    for key, one in trusted.items():
        target = Target(one.host, one.port, one.scheme, key, one.token)
        address = f"{one.host}:{one.port}" if one.scheme == "wss" else target.url
        yield _Known(target.name, address, key, "trusted", target)
    for worker in local_workers():
        if worker.key not in trusted:
            # Its socket is there whatever address and scheme it listens on.
            socket = Target(str(worker.state_dir), 0, "unix")
            address = f"localhost:{worker.port}"
            name = Target("localhost", worker.port).name
            yield _Known(name, address, worker.key, "local", socket)


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
