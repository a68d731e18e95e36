"""The words after ``%on``, ``%%on`` and ``:on``: which hosts, and what to run there."""

from __future__ import annotations

import re
from typing import NamedTuple

from mlepool.client.sync import ClientPool

__all__ = ["OnLine", "is_on"]

USAGE = "on HOSTS [COMMAND], or on -l SELECTOR [COMMAND]"
_SELECTOR = re.compile(r"-l\s+(\"[^\"]*\"|'[^']*'|\S+)\s*(.*)", re.DOTALL)


def is_on(line: str) -> bool:
    """Tell if a line is for hosts: ``:on``, and nothing that only begins so."""
    return line.split(maxsplit=1)[:1] == [":on"]


class OnLine(NamedTuple):
    """What was asked for.

    Attributes:
        names: A set of hosts; empty if they are selected.
        selector: Which labels they have; empty if they are named.
        command: What to run, as it was typed; empty for nothing.
    """

    names: str
    selector: str
    command: str

    @classmethod
    def parse(cls, line: str) -> OnLine:
        """Read the words.

        Raises:
            ValueError: If no host is named, nor selected.
        """
        line = line.strip()
        selected = _SELECTOR.fullmatch(line)
        if selected is not None:
            return cls("", selected[1].strip("\"'"), selected[2])
        names, _, command = line.partition(" ")
        if not names or names.startswith("-"):
            raise ValueError(f"say which hosts: {USAGE}")
        return cls(names, "", command.strip())

    def hosts(self, pool: ClientPool) -> str:
        """Give the set of hosts that is meant.

        Raises:
            LookupError: If none has these labels.
        """
        if not self.selector:
            return self.names
        found = list(pool.select(self.selector))
        if not found:
            raise LookupError(f"no host fits {self.selector!r}")
        return ",".join(one.name for one in found)
