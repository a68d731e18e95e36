"""Telemetry: what is measured when, and what becomes of it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import math
import time
from collections.abc import Callable, Collection, Mapping

import msgspec
from msgspec import structs

from mlepool.config import WorkerConfig
from mlepool.wire.telemetry import KINDS, Sample, merge
from mlepool.worker.queue.gpus import GpuDriver, NvmlDriver
from mlepool.worker.telemetry.delivery import Delivery
from mlepool.worker.telemetry.meters import Meters
from mlepool.worker.telemetry.samples import SAMPLES_FOLDER, Kept, SampleStore
from mlepool.worker.threads import in_thread

__all__ = ["MIN_INTERVAL", "Schedule", "Telemetry"]

logger = logging.getLogger("mlepool.worker")

MIN_INTERVAL = 0.1  # seconds: what is asked for more often is mostly the asking
MAX_INTERVAL = 365 * 86400.0  # seconds
FRESH = 0.2  # seconds that a measurement is good for, however often it is asked for
LOOK_LIMIT = 5.0  # seconds for what may hang: it is left out until it answers

# Broken disks, drivers, and processes that wait for one of these.
MAY_HANG = ("disks", "gpus", "jobs")


class Schedule:
    """Says what is to be measured when; each kind has an interval of its own.

    Args:
        interval: Seconds, of all kinds; 0 for never.
    """

    def __init__(self, interval: float) -> None:
        self._intervals = dict.fromkeys(KINDS, _checked(interval))
        self._due: dict[str, float] = {}

    @property
    def intervals(self) -> dict[str, float]:
        """Seconds by kind."""
        return dict(self._intervals)

    def set(self, intervals: Mapping[str, float]) -> None:
        """Set intervals of some kinds; those are due at once.

        Raises:
            ValueError: For an interval that can't be.
        """
        checked = {kind: _checked(seconds) for kind, seconds in intervals.items()}
        self._intervals |= checked
        for kind in checked:
            self._due.pop(kind, None)

    def begin(self, now: float) -> None:
        """Have nothing due before its next turn."""
        self._due = {
            kind: _turn_after(now, seconds)
            for kind, seconds in self._intervals.items()
            if seconds
        }

    def next(self) -> float:
        """Give when anything is due: in the past for now, infinity for never."""
        wanted = [kind for kind, seconds in self._intervals.items() if seconds]
        return min((self._due.get(kind, 0.0) for kind in wanted), default=math.inf)

    def take(self, now: float) -> list[str]:
        """Give the kinds that are due; they are due again an interval later."""
        due = [
            kind
            for kind, seconds in self._intervals.items()
            if seconds and self._due.get(kind, 0.0) <= now
        ]
        for kind in due:
            self._due[kind] = _turn_after(now, self._intervals[kind])
        return due


class Telemetry:
    """Measures by itself at intervals and when asked, and has samples delivered.

    Args:
        config: The worker's settings.
        jobs: Gives the first process of each job that runs, by the job's id.
        gpus: Tells of GPUs; NVIDIA's driver by default.

    Attributes:
        delivery: Sends samples to clients.
        store: Keeps them until somebody has them.
    """

    def __init__(
        self,
        config: WorkerConfig,
        *,
        jobs: Callable[[], Mapping[str, int]],
        gpus: GpuDriver | None = None,
    ) -> None:
        folder = config.state_dir
        self.store = SampleStore(folder / SAMPLES_FOLDER, size=config.sample_size)
        self.delivery = Delivery(self.store)
        self.meters = Meters(folder, gpus or NvmlDriver())
        self._jobs = jobs
        self._default = config.sample_interval
        self._schedule = Schedule(config.sample_interval)
        self._latest: dict[str, tuple[float, Sample]] = {}
        self._busy = asyncio.Lock()
        self._changed = asyncio.Event()
        self._sampling: asyncio.Task[None] | None = None
        self._looking: dict[str, asyncio.Future[Sample]] = {}
        self._has_failed = False

    @property
    def intervals(self) -> dict[str, float]:
        """Seconds between two samples, by kind; 0 for none."""
        return self._schedule.intervals

    def open(self) -> None:
        """Begin to sample."""
        try:
            self.store.open(time.time())
        except OSError as exc:
            logger.error("samples can't be kept: %s", exc)
        self._schedule.begin(_now())
        self._sampling = asyncio.get_running_loop().create_task(self._sample_on())

    def close(self) -> None:
        """Measure no more; twice is fine."""
        if self._sampling is not None:
            self._sampling.cancel()
        for look in self._looking.values():
            look.cancel()
        self.delivery.close()
        self.store.close()

    def set_intervals(self, intervals: Mapping[str, float]) -> dict[str, float]:
        """Change intervals, until the worker ends or its configuration changes.

        Args:
            intervals: Seconds by kind; 0 for never.

        Raises:
            ValueError: If one can't be.
        """
        self._schedule.set(intervals)
        self._changed.set()
        return self.intervals

    def reconfigure(self, config: WorkerConfig) -> None:
        """Go by other settings: a new interval is that of all kinds again."""
        self.store.size = config.sample_size
        if config.sample_interval != self._default:
            self._default = config.sample_interval
            self.set_intervals(dict.fromkeys(KINDS, self._default))

    async def newest(self, max_age: float | None = None) -> Sample:
        """Give the newest measurements of all kinds.

        Args:
            max_age: Seconds; what is older is measured now. By default what is older
                than its interval.
        """
        async with self._busy:
            now, intervals = _now(), self.intervals
            old = []
            for kind in KINDS:
                limit = intervals[kind] if max_age is None else max_age
                when = self._latest[kind][0] if kind in self._latest else -math.inf
                if now - when > max(limit, FRESH):
                    old.append(kind)
            if old:
                self._note(old, await self._measure(old))
        parts = [sample for _, sample in self._latest.values()]
        return merge(sorted(parts, key=lambda one: one.time))

    def keep(self, sample: Sample) -> None:
        """Keep a sample until somebody has it, and send it to those who follow."""
        sample = structs.replace(sample, id=self.store.next_id())
        kept = Kept(sample.id, msgspec.msgpack.encode(sample))
        is_kept = self.store.append(*kept)
        if not self.delivery.sampled(kept, is_kept=is_kept):
            self.store.miss()

    # -- within

    async def _sample_on(self) -> None:
        while True:
            await self._wait(self._schedule.next())
            kinds = self._schedule.take(_now())
            if not kinds:
                continue
            try:
                async with self._busy:
                    sample = await self._measure(kinds)
                    self._note(kinds, sample)
                self.keep(sample)
                self._has_failed = False
            except Exception as exc:
                # Odd kernels: one sample that fails is no reason to take no more.
                self._note_failure(exc)

    def _note_failure(self, exc: Exception) -> None:
        """Say what is wrong, once until a sample is taken again."""
        if not self._has_failed:
            self._has_failed = True
            if isinstance(exc, OSError):  # no descriptors: what it met says nothing
                logger.error("samples can't be taken for now: %s", exc)
            else:
                logger.error("samples can't be taken for now", exc_info=exc)

    async def _wait(self, due: float) -> None:
        """Wait until a time, or until intervals have changed."""
        self._changed.clear()
        seconds = None if due == math.inf else max(0.0, due - _now())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    def _note(self, kinds: Collection[str], sample: Sample) -> None:
        now = _now()
        for kind in kinds:
            self._latest[kind] = now, _only(kind, sample)

    async def _measure(self, kinds: Collection[str]) -> Sample:
        """Measure; what does not answer is left out, and not asked again until then."""
        jobs = self._jobs()
        slow = [kind for kind in kinds if kind in MAY_HANG]
        for kind in slow:
            if kind not in self._looking:
                look = functools.partial(self.meters.measure, [kind], jobs)
                work = in_thread(look, name=f"telemetry of {kind}")
                self._looking[kind] = asyncio.ensure_future(work)
        others = [kind for kind in kinds if kind not in MAY_HANG]
        measure = functools.partial(self.meters.measure, others, jobs)
        sample = await in_thread(measure, name="telemetry")
        if slow:
            await asyncio.wait([self._looking[one] for one in slow], timeout=LOOK_LIMIT)
        done = [self._looking.pop(one) for one in slow if self._looking[one].done()]
        return merge([sample, *(one.result() for one in done)])


# Fields of a sample by their kind, where they are not called as it is.
_FIELDS = {
    "cpu": ("cpu", "load"),
    "memory": ("memory", "swap"),
    "disks": ("disks", "io"),
}


def _only(kind: str, sample: Sample) -> Sample:
    """Give what is of one kind in a sample."""
    fields = {name: getattr(sample, name) for name in _FIELDS.get(kind, (kind,))}
    return structs.replace(Sample(time=sample.time), **fields)


def _turn_after(now: float, seconds: float) -> float:
    # By the clock, so that all that have the same interval stay together; who was late,
    # since the machine slept, does not catch up.
    return (now // seconds + 1) * seconds


def _checked(seconds: float) -> float:
    if seconds == 0 or MIN_INTERVAL <= seconds <= MAX_INTERVAL:
        return float(seconds)
    raise ValueError(
        f"an interval is 0 for never, or {MIN_INTERVAL} s and more, not {seconds}"
    )


def _now() -> float:
    return time.monotonic()
