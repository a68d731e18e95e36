"""Which kind of event loop runs: apart, since a supervisor needs no loop at all."""

from __future__ import annotations

import asyncio
import os

from mlepool.errors import ConfigError

__all__ = ["new_event_loop"]


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Make an event loop of the kind that MLEPOOL_LOOP asks for.

    Raises:
        ConfigError: If it asks for one that there is not.
    """
    kind = os.environ.get("MLEPOOL_LOOP", "asyncio")
    if kind == "asyncio":
        return asyncio.new_event_loop()
    if kind != "uvloop":
        raise ConfigError(f"MLEPOOL_LOOP is 'asyncio' or 'uvloop', not {kind!r}")
    try:
        import uvloop
    except ImportError:
        raise ConfigError(
            "MLEPOOL_LOOP asks for uvloop, which is not installed: "
            "pip install 'mlepool[fast]'"
        ) from None
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop
