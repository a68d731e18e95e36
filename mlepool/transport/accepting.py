"""Accepts connections, and says what keeps it from that, but not again and again."""

from __future__ import annotations

import asyncio
import logging
import math
import socket
from typing import Any

from mlepool.transport.causes import link_error

__all__ = ["Accepting"]

logger = logging.getLogger("mlepool.worker")

ACCEPT_PAUSE = 1.0  # seconds after accept() failed, so that some descriptors get free
SAY_EVERY = 600.0  # seconds between two lines of what keeps connections out


class Accepting:
    """Accepts the connections at a listening socket, one after the other.

    Args:
        listener: The socket; it must not block.
    """

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._said = -math.inf  # when, on the loop's clock

    async def next(self) -> tuple[socket.socket, Any]:
        """Wait for a connection: its socket, and the address of who has come.

        Where none can be accepted, as with too many files open, those who come wait
        in the kernel's queue.
        """
        loop = asyncio.get_running_loop()
        while True:
            try:
                return await loop.sock_accept(self._listener)
            except OSError as exc:
                self._say(link_error(exc).cause, loop.time())
                await asyncio.sleep(ACCEPT_PAUSE)

    def _say(self, cause: str, now: float) -> None:
        if now >= self._said + SAY_EVERY:
            self._said = now
            logger.error("cannot accept connections, who comes waits: %s", cause)
