"""Stopping a job: the whole tree, in stages, until there is proof that it is dead."""

import signal
from collections.abc import Callable

from mlepool.supervisor.processes import (
    Process,
    command_line,
    ignores,
    send_signal,
    signal_group,
)
from mlepool.wire.values import Signalled, StopReport, Survivor

__all__ = ["KILL_LIMIT", "POLL", "Stopping"]

POLL = 0.02  # seconds between two looks at a tree that is being stopped
KILL_LIMIT = 5.0  # seconds that a process may take to die of SIGKILL: it may hang in
# an uninterruptible wait (a dead NFS server), and then that is what the report says


class Stopping:
    """One stop, from its first signal to its report.

    Args:
        signal_name: The first signal, e.g. ``"SIGINT"``.
        grace: Seconds between two stages.
        find: Gives the job's living processes.
        now: The time, in seconds.

    Raises:
        ValueError: If there is no such signal.

    Attributes:
        reason: Who or what wanted it.
        is_over: True once nothing more will be done; :meth:`report` is then final.
    """

    def __init__(
        self,
        signal_name: str,
        grace: float,
        find: Callable[[], list[Process]],
        *,
        now: float,
        reason: str = "",
    ) -> None:
        self.reason = reason
        self.is_over = False
        self._find = find
        self._began = now
        self._stages = _stages(signal_name, grace)
        self._stage_ends = now
        self._current = signal.Signals.SIGKILL
        self._signalled: list[Signalled] = []
        self._reached: set[tuple[object, ...]] = set()
        self._left: list[Process] = []
        self._seconds = 0.0

    @property
    def has_survivors(self) -> bool:
        """True if it is over and somebody has outlived it."""
        return self.is_over and bool(self._left)

    def advance(self, now: float) -> None:
        """Look at the tree and do what is due; call it every :data:`POLL` seconds."""
        self._left = self._find()
        if not self._left or self.is_over:
            self._finish(now)
            return
        if now >= self._stage_ends or self._is_in_vain():
            if not self._stages:
                self._finish(now)
                return
            self._current, wait = self._stages.pop(0)
            self._stage_ends = now + wait
        self._signal_all(now)

    def hurry(self, signal_name: str) -> None:
        """Skip what remains of the present stage: there is a second stop.

        Args:
            signal_name: What that begins with: stages before its own are left out.
        """
        names = [number.name for number, _ in self._stages]
        if signal_name in names:
            del self._stages[: names.index(signal_name)]
        if self._stages:  # SIGKILL has the time that it takes
            self._stage_ends = 0.0

    def report(self, job_id: str, status: str) -> StopReport:
        """Say what was done, and what is left."""
        survivors = tuple(
            Survivor(one.pid, command_line(one.pid), "did not die of SIGKILL in time")
            for one in self._left
        )
        return StopReport(
            job_id, status, tuple(self._signalled), survivors, self._seconds
        )

    def _finish(self, now: float) -> None:
        if not self.is_over:
            self._seconds = now - self._began
        self.is_over = True

    def _is_in_vain(self) -> bool:
        """Tell if nobody who is left would heed the present stage's signal."""
        if self._current is signal.Signals.SIGKILL:
            return False
        return all(ignores(process, self._current) for process in self._left)

    def _signal_all(self, now: float) -> None:
        """Signal whom this stage's signal has not reached: children are born late.

        So are programs: what a child of a shell gets before its execve(2) may be lost.
        A shell and its child are signalled at one moment, as by a terminal: a bash
        goes on if its child has ended as if nothing were.
        """
        due = [one for one in self._left if self._key(one) not in self._reached]
        reached = {one.group for one in self._left if one not in due}
        self._reached.update(map(self._key, due))
        commands = [command_line(one.pid) for one in due]
        groups = {
            one.group
            for one in due
            if one.group not in reached and signal_group(one, self._current)
        }
        for process, command in zip(due, commands, strict=True):
            if process.group in groups or send_signal(process, self._current):
                name = self._current.name
                after = now - self._began
                self._signalled.append(Signalled(name, process.pid, command, after))
                # A stopped process heeds nothing but SIGKILL until it is continued.
                send_signal(process, signal.SIGCONT)

    def _key(self, process: Process) -> tuple[object, ...]:
        return process.pid, process.start_ticks, process.image, self._current


def _stages(name: str, grace: float) -> list[tuple[signal.Signals, float]]:
    first = signal.Signals.__members__.get(name)
    if first is None:
        raise ValueError(f"there is no signal {name!r}")
    if first is signal.SIGKILL:
        return [(first, KILL_LIMIT)]
    stages = [(first, grace)]
    if first is not signal.SIGTERM:
        stages.append((signal.SIGTERM, grace))
    return [*stages, (signal.SIGKILL, KILL_LIMIT)]
