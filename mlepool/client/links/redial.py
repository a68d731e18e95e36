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
USEFUL_AFTER = MAX_PAUSE  # seconds: a link that has stood so long was of use

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

    def link_ended(self, lasted: float, *, has_worked: bool) -> None:
        """Begin anew after a link that was of use.

        To be let in is not enough: a worker that welcomes and then breaks the link at
        once would be dialled without a pause for ever.

        Args:
            lasted: Seconds that it stood.
            has_worked: If it has brought what somebody waits for.
        """
        if has_worked or lasted >= USEFUL_AFTER:
            self.reset()

    def reset(self) -> None:
        """Begin anew: somebody wants a link now."""
        self._attempts = 0


class Redial:
    """Comes back to a worker after each link that was lost, until it can't.

    Args:
        enter: Dials, goes through the handshake, and calls :meth:`link_made`.
        limit: Seconds after which an absence is given up; None for never.

    Attributes:
        problem: What the last absence was given up for; None while it is not.
    """

    _hurry: asyncio.Event  # since an absence has begun, as is what is wrong so far
    _last: ConnectError | LinkError

    def __init__(
        self, enter: Callable[[], Awaitable[None]], *, limit: float | None
    ) -> None:
        self.problem: MlepoolError | None = None
        self._enter = enter
        self._limit = limit
        self._backoff = Backoff()
        self._linked = 0.0  # when the link was made, on the loop's clock
        self._task: asyncio.Task[None] | None = None

    @property
    def is_on(self) -> bool:
        """True while it tries to come back."""
        return self._task is not None

    @property
    def cause(self) -> str:
        """What is wrong so far with the absence that is on, in words."""
        return self._last.cause

    def link_made(self) -> None:
        """Note that there is a link, whoever has made it."""
        self._linked = asyncio.get_running_loop().time()
        self._task = None

    def link_gone(self, *, has_worked: bool) -> None:
        """Note that there is none, and if it has brought what somebody waits for."""
        lasted = asyncio.get_running_loop().time() - self._linked
        self._backoff.link_ended(lasted, has_worked=has_worked)

    def hurry(self) -> None:
        """Forget how often it was tried: somebody wants a link now."""
        self._backoff.reset()

    def begin(
        self,
        problem: ConnectError | LinkError,
        failed: Callable[[MlepoolError], None],
    ) -> None:
        """Begin to come back, with an attempt at once if the last link was of use.

        Args:
            problem: What is wrong so far: why there is no link.
            failed: Called with what made it give up.
        """
        self.problem = None
        self._hurry = asyncio.Event()
        self._last = problem
        self._task = asyncio.get_running_loop().create_task(self._run(failed))

    async def wait(self) -> None:
        """Wait for the end, with an attempt at once, and pauses that begin anew."""
        self.hurry()
        while self._task is not None:
            self._hurry.set()
            await asyncio.wait([self._task])

    def cancel(self) -> None:
        """Try no more; nobody is told."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self, failed: Callable[[MlepoolError], None]) -> None:
        try:
            async with asyncio.timeout(self._limit):
                end = await self._try_until_done()
        except TimeoutError:
            end = self._last
        except Exception as exc:
            # The top of a task: whatever it was, nobody may wait for ever.
            logger.exception("cannot dial again")
            end = LinkError("other", repr(exc))
        if end is not None:
            self._task, self.problem = None, end
            failed(end)

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
