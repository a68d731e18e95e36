"""What a contender is: one way to run commands, and how it is timed.

A contender lives in a process of its own (`benchmarks.child`). Each method named after
a measure does one turn of it and returns samples; the unit stands in its docstring.
"""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from .work import MIB, Work

WARM_UP = 5  # calls or stamped lines not counted: caches fill, code specialises
FLOODED = 128 * MIB  # bytes of output without end, before something is run beside it
CHUNK = 64 * 1024  # bytes asked for in one read, by everybody who reads bytes


class NotOfferedError(Exception):
    """The contender has no such thing; the message says which, in a few words."""


class WrongOutputError(Exception):
    """A command did not deliver what it should, so its time means nothing."""


class LinkCutError(Exception):
    """The output of a command did not get over a cut of the link.

    Attributes:
        detail: What came, what became of the command, and how it showed, in a line.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason)
        self.detail = detail


class Contender:
    """One way to run commands. A measure that is not overridden is not offered.

    Attributes:
        shares: For slow contenders: measure -> part (0..1) of the work that they do.
    """

    shares: ClassVar[Mapping[str, float]] = {}

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(self) -> None:
        """Start servers and connect. The caller closes, also when this fails."""

    def close(self) -> None:
        """Disconnect, and end all that `open` started. Twice is fine."""

    def version(self) -> str:
        """Return the version of what is measured."""
        raise NotImplementedError

    def run(self, work: Work) -> list[float]:
        """Run `true`, one after another: seconds each."""
        raise NotOfferedError("no commands")

    def at_once(self, work: Work) -> list[float]:
        """Run `true`, many at once on one connection: commands a second."""
        raise NotOfferedError("no commands")

    def ping_async(self, work: Work) -> list[float]:
        """Do nothing at the other end, awaiting it: seconds each."""
        raise NotOfferedError("no such API")

    def ping_blocking(self, work: Work) -> list[float]:
        """Do nothing at the other end, blocking for it: seconds each."""
        raise NotOfferedError("no such API")

    def read_bytes(self, work: Work, path: Path) -> list[float]:
        """Read a file that a command writes: bytes a second."""
        raise NotOfferedError("no output")

    def read_lines(self, work: Work) -> list[float]:
        """Read short lines that a command writes, as text: lines a second."""
        raise NotOfferedError("no output")

    def latency(self, work: Work) -> list[float]:
        """Read stamped lines: seconds from each write to its receipt."""
        raise NotOfferedError("no output")

    def reconnect(self, work: Work) -> list[float]:
        """Cut the link under numbered lines: bytes lost, then seconds to the next."""
        raise NotOfferedError("no link")

    def memory(self, work: Work) -> list[float]:
        """Let output pile up: MiB of each part before and at most, and on disk."""
        raise NotOfferedError("not measured")

    def beside_flood(self, work: Work) -> list[float]:
        """Run `true` alone, then as often beside output without end: seconds each."""
        raise NotOfferedError("not measured")

    def hosts_open(self, work: Work) -> list[float]:
        """Run `true` on many hosts, with connections that are open: seconds for all."""
        raise NotOfferedError("no such API")

    def hosts_connect(self, work: Work) -> list[float]:
        """Connect to many hosts and run `true` there: seconds for all."""
        raise NotOfferedError("no such API")

    def sweep(self, work: Work) -> list[float]:
        """Run many `true`s on a few slots, each once: commands a second."""
        raise NotOfferedError("no such API")

    def whole_process(self, work: Work) -> list[float]:
        """Run `true` by a command line of its own, with connecting: seconds each."""
        raise NotOfferedError("no such tool")

    def prepare(self, targets: Sequence[Path], *, is_update: bool) -> None:
        """Get ready to copy to so many places; it is not timed.

        Args:
            targets: Where copies will be: nothing is there yet.
            is_update: Whether a second copy is made over the first one.
        """
        raise NotOfferedError("no sync")

    def copy(self, source: Path, targets: Sequence[Path]) -> None:
        """Make trees like a source, all at once, one for each (distant) target."""
        raise NotOfferedError("no sync")


def timed(call: Callable[[], object], count: int) -> list[float]:
    """Time `count` calls one by one, in seconds, after some that are not counted."""
    samples = []
    for _ in range(WARM_UP + count):
        start = time.perf_counter()
        call()
        samples.append(time.perf_counter() - start)
    return samples[WARM_UP:]


def seconds(call: Callable[[], object]) -> float:
    """Time one call, in seconds."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def times(call: Callable[[], object], count: int) -> list[float]:
    """Time `count` calls one by one, in seconds: each is long, and warm by itself."""
    return [seconds(call) for _ in range(count)]


async def timed_async(call: Callable[[], Awaitable[object]], count: int) -> list[float]:
    """Time `count` awaited calls one by one, in seconds, after some not counted."""
    samples = []
    for _ in range(WARM_UP + count):
        start = time.perf_counter()
        await call()
        samples.append(time.perf_counter() - start)
    return samples[WARM_UP:]


def rate(call: Callable[[], int], expected: int) -> list[float]:
    """Time one call that returns how many it handled: one sample, per second.

    Raises:
        WrongOutputError: If it did not handle as many as expected.
    """
    start = time.perf_counter()
    count = call()
    elapsed = time.perf_counter() - start
    return [expect(count, expected) / elapsed]


def expect(count: int, expected: int) -> int:
    """Return `count`.

    Raises:
        WrongOutputError: If it is not as expected.
    """
    if count != expected:
        raise WrongOutputError(f"got {count}, expected {expected}")
    return count


def delay(line: str | bytes) -> float:
    """Return how long ago, in seconds, the stamper wrote this line."""
    return (time.monotonic_ns() - int(line.split(maxsplit=1)[0])) / 1e9


def settled(delays: list[float], work: Work) -> list[float]:
    """Check that every stamped line came, and drop the first few."""
    expect(len(delays), work.stamps)
    return delays[WARM_UP:]
