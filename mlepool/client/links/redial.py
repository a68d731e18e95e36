"""When to dial again after a link was lost: pauses that grow, and what ends it."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from mlepool.errors import (
    AuthenticationError,
    ConnectError,
    LinkError,
    MlepoolError,
    UntrustedWorkerError,
    VersionError,
)

__all__ = ["LINK_CODES", "Backoff", "Redial"]

logger = logging.getLogger("mlepool.client")

FIRST_PAUSE = 0.05  # seconds at most before the second attempt; the first comes at once
MAX_PAUSE = 30.0  # seconds
DIAL_LIMIT = 10.0  # seconds for an attempt: the next one may find another way

# With these a conversation has ended that is worth to be taken up again. With another
# one, a side has broken the protocol, or refused the other: that would happen again.
LINK_CODES = frozenset({"lost", "silent", "ending", "busy", "closed"})

# To dial again would not help.
PERMANENT = (AuthenticationError, UntrustedWorkerError, VersionError)


class Backoff:
    """Pauses between attempts: none, and then random ones of a bound that doubles.

    The whole pause is random ("full jitter"), so that the clients of a worker that
    comes back do not all come at once.
    """

    def __init__(self) -> None:
        self._attempts = 0

    def next_pause(self) -> float:
        """Give the seconds to wait before the next attempt."""
        self._attempts += 1
        if self._attempts == 1:
            return 0.0
        bound = FIRST_PAUSE * 2.0 ** min(self._attempts - 2, 20)
        return random.uniform(0.0, min(bound, MAX_PAUSE))

    def reset(self) -> None:
        """Begin anew: a link was of use."""
        self._attempts = 0


class Redial:
    """Tries to come back to a worker until that succeeds, or can't.

    Args:
        enter: Dials, and goes through the handshake.
        backoff: The pauses.
        limit: Seconds after which it gives up; None for never.
        problem: What is wrong so far: why there is no link.
        failed: Called with what made it give up.
    """

    def __init__(
        self,
        enter: Callable[[], Awaitable[None]],
        *,
        backoff: Backoff,
        limit: float | None,
        problem: MlepoolError,
        failed: Callable[[MlepoolError], None],
    ) -> None:
        self._enter = enter
        self._backoff = backoff
        self._limit = limit
        self._failed = failed
        self._hurry = asyncio.Event()
        self._last = problem
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def wait(self) -> None:
        """Wait for the end, without pauses from now on for one attempt."""
        self._hurry.set()
        await asyncio.wait([self._task])

    def cancel(self) -> None:
        """Try no more; nobody is told."""
        self._task.cancel()

    async def _run(self) -> None:
        try:
            async with asyncio.timeout(self._limit):
                problem = await self._try_until_done()
        except TimeoutError:
            problem = self._last
        except Exception as exc:
            # The top of a task: whatever it was, nobody may wait for ever.
            logger.exception("cannot dial again")
            problem = LinkError("other", repr(exc))
        if problem is not None:
            self._failed(problem)

    async def _try_until_done(self) -> MlepoolError | None:
        while True:
            await self._pause()
            try:
                async with asyncio.timeout(DIAL_LIMIT):
                    await self._enter()
            except PERMANENT as exc:
                return exc
            except ConnectError as exc:
                self._last = exc
            except TimeoutError:
                continue
            except MlepoolError as exc:
                return exc  # e.g. a ConfigError: what we know of workers is damaged
            else:
                return None

    async def _pause(self) -> None:
        seconds = self._backoff.next_pause()
        try:
            async with asyncio.timeout(seconds):
                await self._hurry.wait()
        except TimeoutError:
            return
        self._hurry.clear()
