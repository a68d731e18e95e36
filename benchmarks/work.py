"""How much work each row does, and the commands that it runs."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

MIB = 1024 * 1024  # bytes
GB = 1_000_000_000  # bytes; "1 GB of output" is meant decimally

STAMP_INTERVAL = 0.005  # seconds between two stamped lines

# Runs in a bare interpreter. os.write, so that nothing is buffered between the reading
# of the clock and the pipe; CLOCK_MONOTONIC is the same in all processes of a machine.
STAMPER = """\
import os, sys, time
for _ in range(int(sys.argv[1])):
    time.sleep(float(sys.argv[2]))
    os.write(1, b"%d\\n" % time.monotonic_ns())
"""

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
        flood: Bytes that nobody reads, for `memory`.
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
    flood: int
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
        # -I and -S: no site-packages, so that it starts quickly everywhere.
        counts = [str(self.stamps), str(STAMP_INTERVAL)]
        return [sys.executable, "-I", "-S", "-c", STAMPER, *counts]


FULL = Work(
    spawns=150,
    commands=1024,
    pings=1000,
    size=GB,
    lines=2_000_000,
    stamps=300,
    flood=GB,
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
    flood=GB // 8,
    rounds=3,
    budget=78,
)


def write_data(path: Path, size: int) -> None:
    """Make the text file of `size` bytes that the row `bytes` reads."""
    block = DATA_LINE * (MIB // len(DATA_LINE))
    with path.open("wb") as file:
        for left in range(size, 0, -len(block)):
            file.write(block[:left])
