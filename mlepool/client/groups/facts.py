"""How the hosts of one call stand: for both faces."""

from __future__ import annotations

from collections.abc import Callable

from mlepool.client.groups.run import GroupRun
from mlepool.client.groups.slots import Slot
from mlepool.client.groups.waves import State
from mlepool.client.handles import Handle
from mlepool.client.listening.listener import AsyncListener, Status
from mlepool.errors import SkippedError

__all__ = ["GroupFacts"]


class GroupFacts(Handle):
    """How the hosts of one call stand; of both faces.

    Args:
        run: The call.
    """

    def __init__(self, run: GroupRun) -> None:
        self._run = run

    @property
    def command(self) -> str:
        """What runs, for people."""
        return self._run.order.text

    @property
    def names(self) -> list[str]:
        """All hosts, in the group's order."""
        return list(self._run.slots)

    @property
    def succeeded(self) -> list[str]:
        """The hosts that have ended well."""
        return self._with(lambda slot: slot.listener.ok)

    @property
    def failed(self) -> list[str]:
        """The hosts where it failed, was stopped, or timed out; no lost or skipped."""
        bad = {Status.FAILED, Status.STOPPED, Status.TIMED_OUT}
        return self._with(lambda one: one.listener.status in bad and not _skipped(one))

    @property
    def lost(self) -> list[str]:
        """The hosts whose outcome is not known, or that could not be reached."""
        status = Status.LOST
        return self._with(
            lambda one: one.listener.status is status and not _skipped(one)
        )

    @property
    def skipped(self) -> list[str]:
        """The hosts where it was not begun, and never will be."""
        return self._with(_skipped)

    @property
    def running(self) -> list[str]:
        """The hosts where it has begun, or that are being connected, and not ended.

        Also those that were left to go on at their deadline.
        """
        return self._with(lambda slot: slot.is_open or _goes_on(slot.listener))

    @property
    def waiting(self) -> list[str]:
        """The hosts where it will begin, or begin again."""
        states = State.WAITING, State.PAUSED
        return [name for name in self._run.waves.names(*states) if self._is_due(name)]

    @property
    def done(self) -> bool:
        """True once each host has its outcome."""
        return self._run.is_over

    @property
    def ok(self) -> bool:
        """True if it has ended well on all hosts."""
        return self.done and all(one.listener.ok for one in self._run.slots.values())

    def _is_due(self, name: str) -> bool:
        return not self._run.slots[name].is_open

    def _with(self, condition: Callable[[Slot], bool]) -> list[str]:
        return [name for name, one in self._run.slots.items() if condition(one)]

    def __repr__(self) -> str:
        counts = [
            f"{len(names)} {word}"
            for word, names in (
                ("succeeded", self.succeeded),
                ("failed", self.failed),
                ("lost", self.lost),
                ("skipped", self.skipped),
                ("running", self.running),
                ("waiting", self.waiting),
            )
            if names
        ]
        kind = type(self).__name__
        count = len(self._run.slots)
        hosts = f"{count} host" if count == 1 else f"{count} hosts"
        said = f": {', '.join(counts)}" if counts else ""
        return f"<{kind} {self._run.order.verb} on {hosts}{said}>"


def _goes_on(listener: AsyncListener) -> bool:
    return listener.is_left and not listener.intake.is_over


def _skipped(slot: Slot) -> bool:
    intake = slot.listener.intake
    return isinstance(slot.listener.failure or intake.problem, SkippedError)
