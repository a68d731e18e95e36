"""How much work each row does, and the commands that it runs."""

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path

MIB = 1024 * 1024  # bytes
GB = 1_000_000_000  # bytes; "1 GB of output" is meant decimally

STAMP_INTERVAL = 0.005  # seconds between two stamped lines
TICK_INTERVAL = 0.002  # the same, for `reconnect`

# Runs in a bare interpreter. os.write, so that nothing is buffered between the reading
# of the clock and the pipe; CLOCK_MONOTONIC is the same in all processes of a machine.
# The lines are numbered and of one size. Its pid, and that it ended by itself, are
# noted in a file.
STAMPER = """\
import os, sys, time
with open(sys.argv[3], "w", buffering=1) as trace:
    print(os.getpid(), file=trace)
    for number in range(int(sys.argv[1])):
        time.sleep(float(sys.argv[2]))
        os.write(1, b"%020d %010d\\n" % (time.monotonic_ns(), number))
    print("end", file=trace)
"""
STAMP_SIZE = 32  # bytes of each of its lines

# One line of the data file: text, as one peer can carry nothing else.
DATA_LINE = b"0123456789abcdef" * 7 + b"0123456789abcde\n"  # 128 bytes


@dataclass(frozen=True, kw_only=True)
class Work:
    """The amounts for one turn of each row.

    Attributes:
        spawns: Commands run one after another, for `run`.
        commands: Commands in all, for `at-once`.
        lanes: Commands under way at once, for `at-once`.
        pings: Empty commands, for `round-trip`.
        size: Bytes to read, for `bytes`.
        lines: Lines to read, for `lines`.
        stamps: Stamped lines to read, for `latency`; 5 ms apart.
        ticks: Stamped lines to read while links are cut, for `reconnect`; 2 ms apart.
        flood: Bytes that nobody reads, for `memory`.
        files: Files of 4 KiB, for `files`.
        large: Bytes of one large file, for `files`.
        environment: Bytes of a virtual environment at most, for `files`.
        workers: How many get the small files at once, for `files`.
        hosts: Connections, for `hosts`.
        waves: Commands on all of them, one after another, if they are open.
        sweep: Commands in all, for `sweep`.
        slots: How many of them run at once.
        tools: Whole processes, for `tools`.
        rounds: Turns of each contender, for all rows but `memory`.
        budget: Seconds after which no further turn is started.
    """

    spawns: int
    commands: int
    lanes: int = 64
    pings: int
    size: int
    lines: int
    stamps: int
    ticks: int
    flood: int
    files: int
    large: int
    environment: int
    workers: int
    hosts: int = 100
    waves: int = 5
    sweep: int
    slots: int = 8
    tools: int
    rounds: int
    budget: float

    def shared(self, share: float) -> "Work":
        """Return the same work cut down to `share` (0..1), for a slow contender."""
        if share == 1:
            return self
        return replace(
            self,
            commands=max(self.lanes, int(self.commands * share)),
            size=int(self.size * share),
            lines=int(self.lines * share),
            sweep=int(self.sweep * share),
        )

    def cat(self, path: Path) -> list[str]:
        """Return the command that writes the first `size` bytes of `path`."""
        if path.stat().st_size == self.size:
            return ["cat", str(path)]
        return ["head", "-c", str(self.size), str(path)]

    def seq(self) -> list[str]:
        """Return the command that writes `lines` short lines."""
        return ["seq", str(self.lines)]

    def stamper(self) -> list[str]:
        """Return the command that writes `stamps` lines, each the time of its write."""
        return _stamper(self.stamps, STAMP_INTERVAL, os.devnull)

    def ticker(self, trace: Path) -> list[str]:
        """Return the command that writes `ticks` such lines, and its traces."""
        return _stamper(self.ticks, TICK_INTERVAL, str(trace))


def _stamper(count: int, interval: float, trace: str) -> list[str]:
    # -I and -S: no site-packages, so that it starts quickly everywhere.
    start = [sys.executable, "-I", "-S", "-c", STAMPER]
    return [*start, str(count), str(interval), trace]


FULL = Work(
    spawns=150,
    commands=1024,
    pings=1000,
    size=GB,
    lines=2_000_000,
    stamps=300,
    ticks=3000,
    flood=GB,
    files=10_000,
    large=1024 * MIB,
    environment=300 * MIB,
    workers=8,
    sweep=10_000,
    tools=20,
    rounds=5,
    budget=600,
)
QUICK = Work(
    spawns=40,
    commands=192,
    pings=300,
    size=GB // 16,
    lines=200_000,
    stamps=100,
    ticks=750,
    flood=GB // 8,
    files=1000,
    large=64 * MIB,
    environment=32 * MIB,
    workers=3,
    sweep=500,
    tools=6,
    rounds=3,
    budget=78,
)


def write_data(path: Path, size: int) -> None:
    """Make the text file of `size` bytes that the row `bytes` reads."""
    block = DATA_LINE * (MIB // len(DATA_LINE))
    with path.open("wb") as file:
        for left in range(size, 0, -len(block)):
            file.write(block[:left])
