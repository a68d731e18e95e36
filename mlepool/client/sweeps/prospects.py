"""Whether any host will ever take a run of a sweep: else it would wait in silence."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping

from mlepool.client.sweeps.fitness import in_short
from mlepool.client.sweeps.member import UNTRIED, Member, Phase
from mlepool.client.sweeps.plan import Plan

__all__ = ["Prospects", "standstill"]

logger = logging.getLogger("mlepool.client")

PATIENCE = 5.0  # seconds; what a worker finds out about its host comes a moment later

_USELESS = frozenset({Phase.UNFIT, Phase.ABSENT, Phase.STRANGER, Phase.CLOSED})


class Prospects:
    """Whether any host will ever take a run.

    As long as none has, and none that may is left to be reached, there is no use in
    waiting. Where some can't be reached, that is said once, and waited for. Once a
    host has taken runs it is for whoever takes it out to bring it back.

    Args:
        plan: What is to be run.
        members: The hosts, by name.
        despair: Called once no host will ever take a run.

    Attributes:
        verdict: Why none will; empty while there is hope.
    """

    def __init__(
        self, plan: Plan, members: Mapping[str, Member], despair: Callable[[], None]
    ) -> None:
        self.verdict = ""
        self._plan = plan
        self._members = members
        self._despair = despair
        self._is_over = False
        self._was_told = False
        self._timer: asyncio.TimerHandle | None = None

    def look(self) -> None:
        """Look again: a host may stand otherwise."""
        if self._is_over:
            return
        phases = {one.phase for one in self._members.values()}
        if Phase.READY in phases or self._plan.given or self._plan.undead:
            self.close()
        elif phases <= _USELESS:
            if self._timer is None:
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(PATIENCE, self._give_up)
            return
        elif Phase.PREPARING not in phases:
            self._tell()
        self._stop_timer()

    def close(self) -> None:
        """Look no more."""
        self._is_over = True
        self._stop_timer()

    def _tell(self) -> None:
        """Say once what is waited for, when each host was tried."""
        members = self._members.values()
        if not self._was_told and all(one.problem != UNTRIED for one in members):
            self._was_told = True
            text = "waiting to run %r: %s"
            logger.warning(text, str(self._plan.template), standstill(members))

    def _give_up(self) -> None:
        self.verdict = standstill(self._members.values())
        self._despair()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def standstill(members: Iterable[Member]) -> str:
    """Say why no host takes runs."""
    reasons = {one.name: one.problem for one in members}
    return f"no host takes runs ({in_short(reasons) or 'there is none'})"
