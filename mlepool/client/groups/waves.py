"""Which host of a group may begin, and when: states and limits, no I/O, no clock.

Hosts begin in waves (``batch``), a number at a time (``max_parallel``). A host that
fails may be tried again after a pause. Where too many have failed, no other begins:
what runs goes on.
"""

from __future__ import annotations

import enum
import heapq
import math
import random
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

from mlepool.client.groups.limits import Limits

__all__ = ["Decisions", "Verdict", "Waves"]

FIRST_PAUSE = 1.0  # seconds at most before a host is tried again; it doubles
MAX_PAUSE = 30.0  # seconds


class State(enum.Enum):
    """What a host is at."""

    WAITING = "waiting"
    RUNNING = "running"
    PAUSED = "paused"
    ENDED = "ended"
    SKIPPED = "skipped"


class Verdict(enum.Enum):
    """How a host's attempt ended: well, badly, or so that it may be repeated."""

    GOOD = "good"
    BAD = "bad"
    AGAIN = "again"


# What becomes of a host. What is not here is an error.
TRANSITIONS: dict[tuple[State, str], State] = {
    (State.WAITING, "begins"): State.RUNNING,
    (State.PAUSED, "begins"): State.RUNNING,
    (State.RUNNING, "pauses"): State.PAUSED,
    (State.RUNNING, "ends"): State.ENDED,
    (State.PAUSED, "ends"): State.ENDED,
    (State.WAITING, "is skipped"): State.SKIPPED,
}


class Decisions(NamedTuple):
    """What is to be done now.

    Attributes:
        begin: Hosts to begin, or to begin again; they count as running from here on.
        settle: Hosts whose last attempt was their outcome.
        skip: Hosts that will never begin.
    """

    begin: list[str]
    settle: list[str]
    skip: list[str]


class Waves:
    """Decides for the hosts of one call.

    Args:
        names: The hosts, in the order in which they begin.
        limits: What to keep to.
        uniform: Gives a random number between two.

    Attributes:
        cause: Why no more hosts begin; empty while they do.
        failures: How many hosts have failed for good.
    """

    def __init__(
        self,
        names: Iterable[str],
        limits: Limits,
        *,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._states = dict.fromkeys(names, State.WAITING)
        self._limits = limits
        self._uniform = uniform
        self._waiting = deque(self._states)
        self._wave: deque[str] = deque()
        self._number = 0
        self._open = 0  # hosts of the present wave that have not ended
        self._good = 0  # hosts of it that have ended well
        self._running = 0
        self._paused: list[tuple[float, str]] = []
        self._attempts = dict.fromkeys(self._states, 0)
        self._settle: list[str] = []
        self._skip: list[str] = []
        self.cause = ""
        self.failures = 0

    @property
    def is_over(self) -> bool:
        """True once every host has ended, or will never begin."""
        return not (self._running or self._paused or self._wave or self._waiting)

    @property
    def has_more(self) -> bool:
        """True if the end of a running host may decide what begins."""
        return bool(self._paused or self._wave or self._waiting or self._limits.retries)

    def names(self, *states: State) -> list[str]:
        """Give the hosts in some states, in order."""
        return [name for name, state in self._states.items() if state in states]

    def next(self, now: float, *, most: float = math.inf) -> Decisions:
        """Decide what is to be done at a moment, and reserve it.

        Args:
            now: Seconds since some fixed moment.
            most: How many hosts may begin now; if so many do, ask again at once.
        """
        begin: list[str] = []
        while len(begin) < most and (name := self._take(now)) is not None:
            self._move(name, "begins")
            self._running += 1
            self._attempts[name] += 1
            begin.append(name)
        settle, self._settle = self._settle, []
        skip, self._skip = self._skip, []
        return Decisions(begin, settle, skip)

    def next_time(self) -> float | None:
        """Give the moment at which to ask again, if nothing ends before."""
        return self._paused[0][0] if self._paused and self._has_room() else None

    def ended(self, name: str, verdict: Verdict, *, now: float) -> None:
        """Note that a host's attempt has ended."""
        self._running -= 1
        attempts = self._attempts[name]
        again = verdict is Verdict.AGAIN and attempts <= self._limits.retries
        if again and not self.cause:
            self._move(name, "pauses")
            bound = min(MAX_PAUSE, FIRST_PAUSE * 2.0 ** min(attempts - 1, 20))
            pause = self._uniform(bound / 2, bound)
            heapq.heappush(self._paused, (now + pause, name))
            return
        self._end(name, is_good=verdict is Verdict.GOOD)
        if self.failures > self._limits.allowed(len(self._states)):
            self.halt(f"{self.failures} of {len(self._states)} hosts had failed")

    def halt(self, cause: str) -> None:
        """Begin no more, and repeat nothing; what runs goes on. Twice is fine.

        Args:
            cause: Why, as it follows a "since".
        """
        self.cause = self.cause or cause
        for name in (*self._wave, *self._waiting):
            self._move(name, "is skipped")
            self._skip.append(name)
        self._wave.clear()
        self._waiting.clear()
        paused, self._paused = self._paused, []
        for _, name in sorted(paused):
            self._end(name, is_good=False)

    def drop(self, name: str) -> None:
        """Have one host not begin, or not again; nothing if it runs or is over."""
        state = self._states[name]
        if state is State.PAUSED:
            self._paused = [one for one in self._paused if one[1] != name]
            heapq.heapify(self._paused)
            self._end(name, is_good=False)
        elif state is State.WAITING:
            if name in self._wave:
                self._wave.remove(name)
                self._open -= 1
            else:
                self._waiting.remove(name)
            self._move(name, "is skipped")
            self._skip.append(name)

    # -- within

    def _has_room(self) -> bool:
        limit = self._limits.max_parallel
        return limit is None or self._running < limit

    def _take(self, now: float) -> str | None:
        if not self._has_room():
            return None
        if self._paused and self._paused[0][0] <= now:
            return heapq.heappop(self._paused)[1]
        if not self._wave and not self._open:
            self._next_wave()
        return self._wave.popleft() if self._wave else None

    def _next_wave(self) -> None:
        """Make the next wave, unless all of the last one have failed."""
        if not self._waiting:
            return
        if self._number and not self._good and self._limits.max_failures is None:
            self.halt(f"all hosts of wave {self._number} had failed")
            return
        size = self._limits.wave_size(self._number, len(self._states))
        count = min(size, len(self._waiting))
        self._wave.extend(self._waiting.popleft() for _ in range(count))
        self._number += 1
        self._open, self._good = count, 0

    def _end(self, name: str, *, is_good: bool) -> None:
        self._move(name, "ends")
        self._open -= 1
        if is_good:
            self._good += 1
        else:
            self.failures += 1
        self._settle.append(name)

    def _move(self, name: str, event: str) -> None:
        self._states[name] = TRANSITIONS[self._states[name], event]
