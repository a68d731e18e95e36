"""Which job a text means, of those that are known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from mlepool.cli.wording import visible
from mlepool.client.connection import AsyncConnection
from mlepool.errors import MlepoolError
from mlepool.wire.values import JobInfo

__all__ = ["Found", "JobLookupError", "choose", "in_lines"]

MAX_CANDIDATES = 10  # jobs that an error lists


class JobLookupError(MlepoolError, LookupError):
    """No job is meant by a text, or more than one."""


class Found(NamedTuple):
    """A job, and who has it; ``info`` is None for one that is on disk only."""

    connection: AsyncConnection
    id: str
    info: JobInfo | None = None

    @property
    def host(self) -> str:
        """The worker's name."""
        return self.connection.name

    def __str__(self) -> str:
        if self.info is None:
            return self.id
        return f"{self.id} {self.host} {self.info.status} {visible(self.info.command)}"


def choose(text: str, jobs: Sequence[Found]) -> Found | None:
    """Choose the job with this id, or the only one whose id begins so.

    Raises:
        JobLookupError: If several do.
    """
    whole = [one for one in jobs if one.id == text]
    meant = whole or [one for one in jobs if text and one.id.startswith(text)]
    if len(meant) > 1:
        hint = "name its host with -H" if whole else "give more of its id"
        raise JobLookupError(
            f"{text!r} may be any of {len(meant)} jobs; {hint}:{in_lines(meant)}"
        )
    return meant[0] if meant else None


def in_lines(jobs: Sequence[Found]) -> str:
    """List jobs for people, below what is said of them; the first ones of many."""
    lines = [f"\n  {one}" for one in jobs[:MAX_CANDIDATES]]
    more = len(jobs) - MAX_CANDIDATES
    return "".join(lines) + (f"\n  and {more} more" if more > 0 else "")
