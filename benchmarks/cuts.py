"""Cutting a link under a command that prints numbered lines, and who gets over it."""

import importlib
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from .contender import LinkCutError, WrongOutputError
from .work import STAMP_SIZE, TICK_INTERVAL, Work

GAP = 50  # lines that come between getting over one cut and the next
SLACK = 3.0  # seconds after its due end in which a command that runs on may end


def fault_proxy(upstream: int | Path, **keywords: Any) -> Any:
    """Return mlepool's proxy that can cut a link, in front of any contender's server.

    It runs in a thread of the contender's own process, the client's.
    """
    # By name, as MLEPOOL_HOME has to be set before anything of mlepool is imported.
    proxy: Any = importlib.import_module("mlepool.testing.proxy")
    return proxy.FaultProxy(upstream, **keywords)


class Trial:
    """One command that prints numbered lines, the link to which is cut again and again.

    The time of a cut ends with the first line that was written after it: one that had
    been on its way, or waited in a buffer, does not count.

    Args:
        folder: Where the command notes what becomes of it.
        work: How many lines it prints.
        cut: Cuts the link.

    Attributes:
        argv: The command.
    """

    def __init__(self, folder: Path, work: Work, cut: Callable[[], object]) -> None:
        self._trace = folder / "trace"
        self._count = work.ticks
        self._cut = cut
        self._cut_at: int | None = None  # nanoseconds; None once it was got over
        self._quiet = 0  # lines since then
        self._taken = 0
        self._next = 0
        self._wrong = 0  # lines that are missing, or came again
        self._samples: list[float] = []
        self.argv = work.ticker(self._trace)

    def take(self, line: str) -> None:
        """Account for the next line that reached the reader; cut when it is time."""
        stamp, number = (int(part) for part in line.split())
        if len(line.rstrip("\n")) + 1 != STAMP_SIZE:
            raise WrongOutputError(f"a torn line: {line!r}")
        self._taken += 1
        gap = number - self._next
        self._wrong += gap if gap >= 0 else 1
        self._next = max(self._next, number + 1)
        if self._cut_at is None:
            self._quiet += 1
        elif stamp >= self._cut_at:
            self._samples.append((time.monotonic_ns() - self._cut_at) / 1e9)
            self._cut_at, self._quiet = None, 0
        if self._quiet == GAP:
            self._quiet = 0
            self._cut_at = time.monotonic_ns()
            self._cut()

    def outcome(self, how: str) -> list[float]:
        """Return the bytes lost or repeated, then the seconds of each cut.

        Args:
            how: In which way the lines ended, for who did not get them all.

        Raises:
            LinkCutError: If the output ended, or stopped, with a cut.
            WrongOutputError: If no cut was got over.
        """
        if self._next < self._count:
            raise self._failure(how)
        if not self._samples:
            raise WrongOutputError("no cut was got over")
        return [float(self._wrong * STAMP_SIZE), *self._samples]

    def _failure(self, how: str) -> LinkCutError:
        came = f"{self._taken:,} of {self._count:,}"
        fate = self._fate()
        return LinkCutError(
            f"{came}\nlines; command\n{fate}",
            f"after a cut, {came} lines; the command {fate}; {how}",
        )

    def _fate(self) -> str:
        """Wait until the command has ended, and return how that was."""
        deadline = time.monotonic() + self._count * TICK_INTERVAL + SLACK
        pid = int(self._trace.read_text().split()[0])
        while time.monotonic() < deadline:
            if "end" in self._trace.read_text():
                return "ran on"
            with suppress(ProcessLookupError):
                os.kill(pid, 0)
                time.sleep(0.02)
                continue
            return "died"
        return "hangs"
