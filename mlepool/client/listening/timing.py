"""What time a command has: until its end, and between two of its messages."""

from __future__ import annotations

import asyncio
import time

from mlepool.client.checks import check_seconds
from mlepool.client.listening.facts import Facts
from mlepool.client.listening.intake import Intake
from mlepool.client.options import CallOptions
from mlepool.errors import ClientError, ListenerTimeoutError

__all__ = ["Timed"]

TIMEOUT_SLACK = 3.0  # seconds after the deadline for the worker's proof of the stop


class Timed(Facts):
    """A command whose time is measured here: its whole, and its silence.

    None of it counts while the command waits in line, or is still to come.

    """

    def __init__(
        self,
        job_id: str,
        command: str,
        *,
        options: CallOptions,
        intake: Intake,
        host: str,
        is_to_come: bool,
    ) -> None:
        super().__init__(job_id, command, host=host, options=options, intake=intake)
        self.is_to_come = is_to_come
        self._max_interval = options.max_interval
        self._expired = False
        self._is_shut = False  # by close(), while the job goes on
        self._timer = None if is_to_come else self._set_timer()

    @property
    def max_interval(self) -> float | None:
        """Longest silence between two messages, seconds; may be set at any time."""
        return self._max_interval

    @max_interval.setter
    def max_interval(self, seconds: float | None) -> None:
        check_seconds("max_interval", seconds)
        self._max_interval = seconds

    @property
    def longest(self) -> float | None:
        """Seconds until time is up here, once it counts; None for never."""
        if self.timeout is None:
            return None
        slack = 0.0 if self.options.on_timeout == "detach" else TIMEOUT_SLACK
        return self.timeout + slack

    async def accepted(self) -> None:
        """Wait until the worker has started the command, put it in line, or refused."""
        while not self.intake.is_accepted and not self.intake.is_over:
            await self.change(silence=False)

    def placed(self, place: int) -> None:
        """Note its place in line, where no time counts; 0 once it has begun."""
        waited, self.intake.place = self.intake.place, place
        if place:
            self._cancel_timer()
        elif waited:
            self._cancel_timer()
            self._begin_to_count()

    async def change(self, *, silence: bool = True) -> None:
        """Wait until something has come, but not longer than ``max_interval``.

        Raises:
            ClientError: If nothing will: the listener was closed.
        """
        shut = self.shut_error()
        if shut is not None:
            raise shut
        waits = self.place or self.is_to_come
        limit = self.max_interval if silence and not waits else None
        if limit is None:
            await self.intake.changed()
        else:
            try:
                async with asyncio.timeout(limit):
                    await self.intake.changed()
            except TimeoutError:
                raise ListenerTimeoutError(
                    self.host, self.command, seconds=limit, job_id=self.id
                ) from None
        expiry = self.take_expiry()
        if expiry is not None:
            raise expiry

    @property
    def is_interrupted(self) -> bool:
        """True if who waits is to be told that time is up, or that it was closed."""
        return self._expired or self._is_shut

    def take_expiry(self) -> Exception | None:
        """Give what says that time is up while the job goes on: to one who waits."""
        if not self._expired:
            return None
        self._expired = False
        return self._timeout_error(stopped=False)

    def shut_error(self) -> ClientError | None:
        """Give what says that the listener was closed before the end; else None."""
        if not self._is_shut or self.intake.is_over:
            return None
        return ClientError(f"job {self.id}: its listener was closed; it goes on")

    def left_error(self) -> Exception | None:
        """Give what says that it goes on, and nobody listens; else None."""
        goes_on = self.is_left and not self.intake.is_over
        if not goes_on:
            return None
        if self.timeout is None:
            return ClientError(f"job {self.id}: its listener was closed; it goes on")
        return self._timeout_error(stopped=False)

    def _begin_to_count(self) -> None:
        self._began, self._in_line_until = time.time(), time.monotonic()
        self._timer = self._set_timer()

    def _set_timer(self) -> asyncio.TimerHandle | None:
        if self.longest is None:
            return None
        loop = asyncio.get_running_loop()
        return loop.call_later(self.longest, self._expire)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        if self.options.on_timeout == "detach":
            self._expired = self.is_left = True
            self.intake.interrupt()
        else:
            self.intake.fail(self._timeout_error(stopped=None))
