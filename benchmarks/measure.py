"""Takes turns: every contender once a round, so that drift meets all of them alike."""

import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .child import CONTENDERS
from .contender import Contender
from .files import CASES
from .rows import LIMIT, OURS, Row
from .session import Session, TurnError
from .work import Work

OPEN_LIMIT = 30.0  # seconds to start servers and connect
TURN_LIMIT = 90.0  # seconds for one turn
FLOOD_RATE = 20e6  # bytes a second that a flood makes at the least

OUT_OF_TIME = "out of time"  # the reason of turns that were not taken
NOT_OFFERED = "not offered"  # the reason where a contender has no such thing at all

# Threads that poll without a pause would slow down everybody else's turns.
POLLING = frozenset({"conplyent"})


@dataclass
class Results:
    """All that was measured.

    Attributes:
        samples: (measure, contender) -> the samples of each round, None if none.
        failures: (measure, contender) -> why it was given up.
        versions: Contender -> what was measured.
    """

    samples: dict[tuple[str, str], list[list[float] | None]] = field(
        default_factory=dict
    )
    failures: dict[tuple[str, str], TurnError] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def spread(self, row: Row, contender: str) -> list[float]:
        """Return a row's number for each round that has it, as compared: maybe ratios.

        Each ratio is to the limit as measured in the same round.
        """
        rounds = self.samples.get((row.measure, contender), [])
        if not row.is_ratio:
            return [row.statistic(turn) for turn in rounds if turn]
        limits = self.samples.get((row.measure, LIMIT), [])
        return [
            row.statistic(turn) / row.statistic(limit)
            for turn, limit in zip(rounds, limits, strict=False)
            if turn and limit
        ]

    def middle(self, row: Row, contender: str) -> float | None:
        """Return what counts of the spread: its median; None if there is none."""
        spread = self.spread(row, contender)
        return row.over_rounds(spread) if spread else None

    def against(self, row: Row, contender: str, peer: str) -> float | None:
        """Return the median ratio of a contender to a peer in the same rounds."""
        mine, others = (
            self.samples.get((row.measure, name), []) for name in (contender, peer)
        )
        ratios = [
            row.statistic(one) / row.statistic(other)
            for one, other in zip(mine, others, strict=False)
            if one and other
        ]
        return row.over_rounds(ratios) if ratios else None

    def broke(self, row: Row, contender: str) -> str:
        """Return why a contender did not finish a row by its own fault, or nothing.

        What it did before does not count then: a command that fails now and then is
        not fast.
        """
        failure = self.failures.get((row.measure, contender))
        return failure.reason if failure and failure.reason != OUT_OF_TIME else ""

    def limit(self, row: Row) -> float | None:
        """Return the limit itself, in its own unit; None if there is none."""
        rounds = self.samples.get((row.measure, LIMIT), [])
        values = [row.statistic(turn) for turn in rounds if turn]
        return statistics.median(values) if values else None


def offers(contender: type[Contender], measure: str) -> bool:
    """Return whether there is anything to be opened for."""
    name = "copy" if measure in CASES else measure
    return getattr(contender, name) is not getattr(Contender, name)


class Bench:
    """Opens contenders when their turn comes; a context manager that closes them."""

    def __init__(self, work: Work, folder: Path, names: Sequence[str]) -> None:
        self.results = Results()
        self._work = work
        self._folder = folder
        self._names = [LIMIT, *(name for name in CONTENDERS if name in names)]
        self._sessions: dict[str, Session] = {}
        self._absent: dict[str, TurnError] = {}
        self._numbers = itertools.count()
        self._deadline = time.monotonic() + work.budget

    def __enter__(self) -> "Bench":
        return self

    def __exit__(self, *_exc: object) -> None:
        for name in list(self._sessions):
            self._close(name)

    def measure(self, row: Row, *, progress: Callable[[str], None]) -> None:
        """Measure one row in interleaved rounds; failures become results.

        Args:
            row: What to measure; twice the same measure is measured once.
            progress: Told what is being done, a line at a time.
        """
        if any(measure == row.measure for measure, _ in self.results.samples):
            return
        names = self._names if row.measure != "memory" else list(OURS)
        for name in names:
            if not offers(CONTENDERS[name], row.measure):
                self.results.failures[row.measure, name] = TurnError(NOT_OFFERED)
        for number in range(self._work.rounds if row.measure != "memory" else 1):
            progress(f"{row.measure}, round {number + 1}")
            # Nobody always comes first, or always after the same neighbour.
            first = number % len(names)
            for name in names[first:] + names[:first]:
                self._take_turn(row, name)

    def _take_turn(self, row: Row, name: str) -> None:
        key = (row.measure, name)
        rounds = self.results.samples.setdefault(key, [])
        samples = None
        if key not in self.results.failures:
            try:
                samples = self._sample(row, name)
            except TurnError as exc:
                self.results.failures[key] = exc
        rounds.append(samples)

    def _sample(self, row: Row, name: str) -> list[float]:
        session = self._session(name)
        turn = {"measure": row.measure, "work": asdict(self._work)}
        try:
            return session.measure(turn, timeout=self._turn_limit(row))
        finally:
            is_old = row.is_fresh and name in OURS
            if is_old or name in POLLING or not session.usable:
                self._close(name)

    def _turn_limit(self, row: Row) -> float:
        flood = self._work.flood / FLOOD_RATE if row.measure == "memory" else 0.0
        return min(TURN_LIMIT + flood, self._left())

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left < 1:
            raise TurnError(OUT_OF_TIME, f"after {self._work.budget:.0f} s in all")
        return left

    def _session(self, name: str) -> Session:
        if name in self._absent:
            raise self._absent[name]
        if name not in self._sessions:
            limit = min(OPEN_LIMIT, self._left())
            folder = self._folder / f"{next(self._numbers):03d}"
            self._sessions[name] = Session(name, folder, self._folder / "data")
            self._open(name, limit)
        return self._sessions[name]

    def _open(self, name: str, limit: float) -> None:
        session = self._sessions[name]
        try:
            session.open(timeout=limit)
        except TurnError as exc:
            self._absent[name] = exc
            self._close(name)
            raise
        self.results.versions[name] = session.version

    def _close(self, name: str) -> None:
        self._sessions.pop(name).close()
