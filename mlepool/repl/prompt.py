"""What is known at the prompt of ``mlepool shell``, and what its end leaves."""

from __future__ import annotations

import logging
import sys
from typing import Any

import mlepool
from mlepool.client.sync import ClientPool
from mlepool.repl.lazy import LazyConnection
from mlepool.repl.names import identifiers

__all__ = ["banner", "end", "names_for", "open_pool"]

SHOWN_NAMES = 8  # in the banner


def open_pool() -> ClientPool:
    """Give the default pool; what is added to it connects when it is first used."""
    mlepool.pool._kind = LazyConnection
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("mlepool: %(message)s"))
    logging.getLogger("mlepool").addHandler(handler)
    return mlepool.pool


def names_for(pool: ClientPool) -> dict[str, Any]:
    """Give the names of the prompt: ``mlepool``, ``pool``, and every host."""
    base: dict[str, Any] = {"mlepool": mlepool, "pool": pool}
    every = {one.name: one for one in pool}
    found = identifiers(every, taken=(*base, "on"))
    return {**{word: every[name] for word, name in found.items()}, **base}


def banner(names: dict[str, Any]) -> str:
    """Say what is there, in a few lines."""
    hosts = [word for word, one in names.items() if isinstance(one, LazyConnection)]
    shown = ", ".join(hosts[:SHOWN_NAMES])
    more = f" and {len(hosts) - SHOWN_NAMES} more" if len(hosts) > SHOWN_NAMES else ""
    known = f"{shown}{more}" if hosts else "no host is known; mlepool.add() adds one"
    first = hosts[0] if hosts else "gpu1"
    name = getattr(names.get(first), "name", first)
    return (
        f"mlepool {mlepool.__version__}, Python {sys.version.split()[0]}\n"
        f"pool, and its hosts: {known}\n"
        f'{first}.run("make -j8") runs there; :on {name} has each line run there'
    )


def end(pool: ClientPool) -> None:
    """Leave: jobs go on, and those that were begun here are named."""
    for connection in pool:
        connection.leave_all()
