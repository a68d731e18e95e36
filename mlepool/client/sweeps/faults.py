"""Hosts that spoil runs: one where all fail at once, and others do them well."""

from __future__ import annotations

from collections.abc import Iterable

from mlepool.client.sweeps.member import Member
from mlepool.client.sweeps.records import Ended

__all__ = ["judge"]

AT_ONCE = 5.0  # seconds; a run that fails within them may be its host's fault
MAX_FAULTS = 3  # in a row, where others fare well: then the host gets none
FAULTY_PAUSE = 60.0  # seconds; the first run after them shows if it is well again


def judge(member: Member, end: Ended, others: Iterable[Member]) -> None:
    """Put a host aside that spoils runs which others do well.

    Args:
        member: The host.
        end: How a run has ended there.
        others: All other hosts.
    """
    if end.status == "SUCCEEDED":
        member.wins += 1
    is_fault = end.status == "FAILED" and end.seconds < AT_ONCE
    member.faults = member.faults + 1 if is_fault else 0
    if member.faults >= MAX_FAULTS and any(
        one.is_ready and one.wins and not one.faults for one in others
    ):
        text = f"{member.faults} runs in a row have failed there at once"
        member.rest(FAULTY_PAUSE, text)
