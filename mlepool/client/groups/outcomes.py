"""What the end of a host's attempt means, and how its listener is told of it."""

from __future__ import annotations

from mlepool.client.groups.slots import Slot
from mlepool.client.groups.waves import Verdict
from mlepool.client.links.redial import PERMANENT
from mlepool.client.listening.jobless import fail_unbegun
from mlepool.client.listening.listener import Status
from mlepool.errors import ClientError, ConnectError, SkippedError

__all__ = ["of_ended", "of_unreached", "settle", "skip"]


def of_ended(slot: Slot, *, is_safe: bool) -> Verdict:
    """Judge an attempt that has ended: whether another one may do better.

    Args:
        slot: Whose it is.
        is_safe: True if also what may have run can be repeated.
    """
    status = slot.listener.status
    if status is Status.SUCCEEDED:
        return Verdict.GOOD
    if status is Status.LOST and not is_safe:
        was_sent = slot.connection.was_sent(slot.listener.id)
        return Verdict.BAD if was_sent else Verdict.AGAIN
    again = status in {Status.LOST, Status.FAILED, Status.TIMED_OUT}
    return Verdict.AGAIN if again else Verdict.BAD


def of_unreached(exc: Exception) -> Verdict:
    """Judge what kept a host from being connected: whether it may be gone later."""
    passing = isinstance(exc, ConnectError) and not isinstance(exc, PERMANENT)
    return Verdict.AGAIN if passing else Verdict.BAD


def settle(slot: Slot) -> None:
    """Have a listener tell what kept its call from being made."""
    problem, listener = slot.problem, slot.listener
    if problem is None or listener.intake.is_over:
        return
    if isinstance(problem, ClientError):
        listener.intake.fail(problem)
        listener.ended()
    else:
        fail_unbegun(listener, problem)


def skip(slot: Slot, cause: str) -> None:
    """Have a listener tell why its call was never begun."""
    if slot.listener.intake.is_over:
        return
    fail_unbegun(slot.listener, SkippedError(slot.name, cause))
