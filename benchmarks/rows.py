"""The rows of the table: what is measured, what is to be reached, how it is shown."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from .work import MIB

LIMIT = "local"
OURS = ("mlepool-unix", "mlepool-tls")
PEERS = (
    *("openssh", "asyncssh", "execnet", "conplyent"),
    *("parallel-ssh", "clush", "fabric"),
)
PARTS = ("client", "worker", "supervisor")  # in the samples of `memory`
TITLES = {
    "local": "local limit",
    "mlepool-unix": "mlepool (unix, plain)",
    "mlepool-tls": "mlepool (TLS, loopback)",
    "openssh": "openssh",
    "asyncssh": "asyncssh",
    "execnet": "execnet",
    "conplyent": "conplyent",
    "parallel-ssh": "parallel-ssh",
    "clush": "clush",
    "fabric": "fabric",
}

# MiB that "flat" allows for client, worker and supervisor together: a listener keeps
# 16 MiB by contract, and each process has buffers and an allocator's slack.
FLAT = 64.0


def p50(samples: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(samples)


def p99(samples: Sequence[float]) -> float:
    """Return the sample that at most 1 % of them exceed."""
    return sorted(samples)[math.ceil(len(samples) * 0.99) - 1]


def growth(samples: Sequence[float]) -> float:
    """Return what client, worker and supervisor grew by together."""
    before, most = samples[: len(PARTS)], samples[len(PARTS) : 2 * len(PARTS)]
    return sum(most) - sum(before)


def beside_p50(samples: Sequence[float]) -> float:
    """Return how many times the median is what it was in the first half."""
    half = len(samples) // 2
    return p50(samples[half:]) / p50(samples[:half])


def beside_p99(samples: Sequence[float]) -> float:
    """Return the same of the p99."""
    half = len(samples) // 2
    return p99(samples[half:]) / p99(samples[:half])


def lost(samples: Sequence[float]) -> float:
    """Return the bytes that were lost or repeated in a turn of `reconnect`."""
    return samples[0]


def cuts_p50(samples: Sequence[float]) -> float:
    """Return the median of the times of the cuts in such a turn."""
    return p50(samples[1:])


def cuts_p99(samples: Sequence[float]) -> float:
    """Return their p99."""
    return p99(samples[1:])


def as_duration(seconds: float) -> str:
    """Return a duration with its unit: us, ms or s."""
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1e6:.0f} us" if seconds < 1e-3 else f"{seconds * 1e3:.2f} ms"


def as_bytes(count: float) -> str:
    """Return an amount in bytes."""
    return f"{count:,.0f} B"


def as_rate(per_second: float) -> str:
    """Return a rate in round numbers."""
    return f"{per_second:,.0f}/s"


def as_bandwidth(per_second: float) -> str:
    """Return a rate of bytes in MiB/s."""
    return f"{per_second / MIB:,.0f} MiB/s"


def as_ratio(value: float) -> str:
    """Return a ratio with about three digits."""
    return f"{value:.2f}x" if value >= 0.1 else f"{value:.2g}x"


def as_times(value: float) -> str:
    """Return how many times as much something is as it was before."""
    return f"{value:.2f} times"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row.

    Attributes:
        name: For `--only`; rows may share it.
        measure: The contender's method that is timed; rows may share it.
        what: The first cell.
        reach: The second cell.
        statistic: From the samples of one turn to one number.
        over_rounds: From the numbers of all rounds to the one that counts.
        higher_is_better: Whether it is a rate.
        goals: Contender -> the number that it has to reach.
        ahead_of: Contender -> the peers that it has to be better than.
        margin: How many times better than those.
        show: From a number as compared to text; `as_ratio` also makes it a ratio.
        show_limit: From the limit's number to text.
        is_fresh: Whether each turn gets a new worker: its journal may fill the disk,
            or it would find again what it once got.
        beside: The peer that ours are also compared to directly, and what its way
            of doing this is called; None for none.
    """

    name: str
    measure: str
    what: str
    reach: str
    statistic: Callable[[Sequence[float]], float] = p50
    over_rounds: Callable[[Sequence[float]], float] = p50
    higher_is_better: bool = False
    goals: Mapping[str, float] = field(default_factory=dict)
    ahead_of: Mapping[str, Sequence[str]] = field(default_factory=dict)
    margin: float = 1.0
    show: Callable[[float], str] = as_ratio
    show_limit: Callable[[float], str] = as_duration
    is_fresh: bool = False
    beside: tuple[str, str] | None = None

    @property
    def is_ratio(self) -> bool:
        """Whether the number is divided by the limit's of the same round."""
        return self.show is as_ratio

    def is_better(self, one: float, other: float, *, times: float = 1.0) -> bool:
        """Return whether `one` is so many times better than `other`, or as good."""
        if self.higher_is_better:
            return one >= other * times
        return one * times <= other


def both(goal: float) -> dict[str, float]:
    """Return a goal that holds for both ways to a worker."""
    return dict.fromkeys(OURS, goal)


ROWS = (
    Row(
        name="run",
        measure="run",
        what='run("true"), p50',
        reach="<= 2.2x",
        goals=both(2.2),
    ),
    Row(
        name="at-once",
        measure="at_once",
        what="commands/s,\n64 at once",
        reach=">= 0.9x",
        higher_is_better=True,
        goals=both(0.9),
        show_limit=as_rate,
    ),
    Row(
        name="round-trip",
        measure="ping_async",
        what="empty command,\nasync, p50",
        reach="<= 1.5x",
        goals=both(1.5),
    ),
    Row(
        name="round-trip",
        measure="ping_blocking",
        what="empty command,\nblocking, p50",
        reach="<= 2.5x",
        goals=both(2.5),
    ),
    Row(
        name="bytes",
        measure="read_bytes",
        what="bytes of a cat",
        reach=">= 0.35x plain;\nTLS: > openssh",
        higher_is_better=True,
        goals={"mlepool-unix": 0.35},
        ahead_of={"mlepool-tls": ("openssh",)},
        show_limit=as_bandwidth,
        is_fresh=True,
    ),
    Row(
        name="lines",
        measure="read_lines",
        what="short lines",
        reach="ahead of\nevery peer",
        higher_is_better=True,
        ahead_of=dict.fromkeys(OURS, PEERS),
        show_limit=as_rate,
    ),
    Row(
        name="latency",
        measure="latency",
        what="latency of a\nline, p50",
        reach="<= 10x",
        goals=both(10),
    ),
    Row(
        name="latency",
        measure="latency",
        what="latency of a\nline, p99",
        reach="<= 10 ms",
        statistic=p99,
        goals=both(0.010),
        show=as_duration,
    ),
    Row(
        name="memory",
        measure="memory",
        what="memory growth,\nreader stopped",
        reach=f"flat: <= {FLAT:.0f}\nMiB in all",
        statistic=growth,
        goals=both(FLAT),
        show=lambda value: f"{value:.1f} MiB",
        is_fresh=True,
    ),
    *(
        Row(
            name="flood",
            measure="beside_flood",
            what=f'run("true") beside\na flood, {what}',
            reach="<= 1.5 times\nalone",
            statistic=statistic,
            goals=both(1.5),
            show=as_times,
            show_limit=as_times,
            is_fresh=True,
        )
        for what, statistic in (("p50", beside_p50), ("p99", beside_p99))
    ),
    *(
        Row(
            name="reconnect",
            measure="reconnect",
            what=f"link cut: {what}",
            reach=f"<= {show(goal)}",
            statistic=statistic,
            over_rounds=over_rounds,
            goals=both(goal),
            show=show,
        )
        for what, statistic, over_rounds, goal, show in (
            ("next\nline, p50", cuts_p50, p50, 0.05, as_duration),
            ("next\nline, p99", cuts_p99, p50, 0.25, as_duration),
            ("lost\nor repeated", lost, max, 0.0, as_bytes),
        )
    ),
    Row(
        name="hosts",
        measure="hosts_open",
        what='"true" on 100 hosts,\nconnected',
        reach="<= 1.5x",
        goals=both(1.5),
    ),
    Row(
        name="hosts",
        measure="hosts_connect",
        what='"true" on 100 hosts,\nwith connecting',
        reach="4 times faster\nthan asyncssh",
        ahead_of=dict.fromkeys(OURS, ("asyncssh",)),
        margin=4.0,
        beside=("asyncssh", "asyncssh"),
    ),
    Row(
        name="sweep",
        measure="sweep",
        what="jobs of a sweep,\n8 slots",
        reach=">= 0.5x",
        higher_is_better=True,
        goals=both(0.5),
        show_limit=as_rate,
    ),
    Row(
        name="tools",
        measure="whole_process",
        what="command line,\nwhole process",
        reach="ahead of ssh",
        ahead_of=dict.fromkeys(OURS, ("openssh",)),
        beside=("openssh", "ssh"),
    ),
    *(
        Row(
            name="files",
            measure=f"files_{case}",
            what=what,
            reach="ahead of rsync",
            ahead_of=dict.fromkeys(OURS, ("openssh",)),
            is_fresh=is_fresh,
            beside=("openssh", "rsync"),
        )
        for case, what, is_fresh in (
            ("small", "many small files", True),
            ("same", "unchanged", False),
            ("ten", "ten of them\nchanged", False),
            ("large", "one large file", True),
            ("changed", "one byte of it\nchanged", False),
            ("inserted", "one byte\ninserted", False),
            ("environment", "a virtual\nenvironment", True),
            ("many", "small files to\nmany workers", True),
        )
    ),
)
NAMES = tuple(dict.fromkeys(row.name for row in ROWS))
# They take minutes, those of `files` gigabytes too: only who asks for them gets them.
LONG = ("files", "hosts", "sweep", "tools")
USUAL = tuple(name for name in NAMES if name not in LONG)
