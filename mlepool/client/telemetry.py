"""What a worker measures, as a connection has it: asked for, and told live."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import msgspec
from msgspec import structs

from mlepool.client.calls import Calls
from mlepool.client.ids import new_job_id
from mlepool.errors import RemoteProtocolError
from mlepool.wire.telemetry import FOLLOW, JobSample, Sample

__all__ = ["MetricsFeed", "MetricsMethods"]

logger = logging.getLogger("mlepool.client")

MAX_JOBS = 4000  # jobs of which the latest is known; the oldest are forgotten first

Ask = Callable[[str, dict[str, Any]], Awaitable[Any]]


class MetricsMethods:
    """What a connection can be asked for of its worker's telemetry."""

    _calls: Calls

    async def _open(self) -> None:
        raise NotImplementedError

    async def metrics(self) -> Sample:
        """Give the worker's newest measurements, of all kinds.

        What is older than its interval (:meth:`set_metrics`, 10 s by default) is
        measured now: that may take a moment.

        Raises:
            PermissionDeniedError: If the token has not the role ``view``.
            ConnectionClosedError: If there is no link, and none will come.
        """
        await self._open()
        value = await self._calls.ask("_metrics", {})
        try:
            return msgspec.convert(value, Sample)
        except msgspec.ValidationError as exc:
            raise RemoteProtocolError(f"a sample is wrong: {exc}") from exc


class MetricsFeed:
    """Follows a worker's samples, over one link after another: each comes once.

    Args:
        name: The connection's, for the log.
        ask: Calls a command of the worker for its value.
        deliver: Given each sample, if samples are collected.
    """

    def __init__(
        self, name: str, ask: Ask, deliver: Callable[[Sample], object]
    ) -> None:
        self._name = name
        self._ask = ask
        self._deliver = deliver
        self._id = new_job_id()  # the worker knows us by it over the next link
        self._is_wanted = False
        self._collects = False
        self._is_second = False  # another client gets what is kept
        self._is_linked = False
        self._last = 0
        self._said: tuple[int, bool] | None = None  # what this link's worker knows
        self._saying: asyncio.Task[None] | None = None
        self._jobs: dict[str, tuple[float, JobSample]] = {}

    def collect(self) -> None:
        """Have all samples delivered, those that are kept too. Twice is fine."""
        if not self._collects:
            self._is_wanted = self._collects = True
            self._say_later()

    def job(self, job_id: str) -> JobSample | None:
        """Give the latest of a job; None before. From the first call on they come."""
        if not self._is_wanted:
            self._is_wanted = True
            self._say_later()
        known = self._jobs.get(job_id)
        return None if known is None else known[1]

    def link_made(self) -> None:
        """Go on over a new link."""
        self._is_linked, self._said = True, None
        self._say_later()

    def link_gone(self) -> None:
        """Wait for the next link."""
        self._is_linked = False
        if self._saying is not None:
            self._saying.cancel()
            self._saying = None

    def take(self, data: Any) -> None:
        """Take an event's samples.

        Raises:
            RemoteProtocolError: If it holds none.
        """
        for sample in _samples(data):
            self._note_jobs(sample)
            if self._collects and sample.id > self._last:
                self._deliver(sample)
                self._last = sample.id
        self._say_later()

    # -- within

    def _wish(self) -> tuple[int, bool]:
        """Give what the worker should know: what we have, and if we collect."""
        collects = self._collects and not self._is_second
        return (self._last if collects else 0), collects

    def _say_later(self) -> None:
        is_due = self._is_linked and self._is_wanted and self._said != self._wish()
        if is_due and self._saying is None:
            self._saying = asyncio.get_running_loop().create_task(self._say())

    async def _say(self) -> None:
        """Ask for samples, and say which were delivered, as long as that is new."""
        try:
            while (wish := self._wish()) != self._said:
                await self._say_once(wish[0], collects=wish[1])
        except Exception as exc:
            # The top of a task: a worker that tells nobody is no reason to fail.
            logger.warning("%s tells of no metrics: %s", self._name, exc)
        self._saying = None

    async def _say_once(self, after: int, *, collects: bool) -> None:
        place = {"follower": self._id, "after": after, "collects": collects}
        is_first = await self._ask(FOLLOW, place)
        if collects and not is_first:
            self._is_second = True
        self._said = (after, collects) if is_first or not collects else self._wish()

    def _note_jobs(self, sample: Sample) -> None:
        for one in sample.jobs or ():
            known = self._jobs.pop(one.id, (sample.time, one))
            self._jobs[one.id] = known if known[0] > sample.time else (sample.time, one)
        while len(self._jobs) > MAX_JOBS:
            del self._jobs[next(iter(self._jobs))]


def _samples(data: Any) -> Iterator[Sample]:
    """Decode an event's samples.

    Raises:
        RemoteProtocolError: If it holds none.
    """
    try:
        dropped, batch = msgspec.convert(data, tuple[int, list[tuple[int, bytes]]])
        for number, packed in batch:
            sample = msgspec.msgpack.decode(packed, type=Sample)
            yield structs.replace(sample, id=number, dropped=dropped)
            dropped = 0
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise RemoteProtocolError(f"samples are wrong: {exc}") from exc
