"""Which hosts fail again and again, and are left out for a while: no I/O, no clock.

A host that has a number of faults in a row, while others fare well, is left out. When
its time is up it has to prove itself; if it can't, it is left out for longer.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

__all__ = ["QUICK", "STRIKES", "Quarantine", "Standing"]

STRIKES = 3  # faults in a row, after which a host is left out
QUICK = 5.0  # seconds: a command that fails within them says more of its host
FIRST_PAUSE = 60.0  # seconds that a host is left out; twice as long each time
MAX_PAUSE = 3600.0  # seconds


class Standing(enum.Enum):
    """What may be asked of a host: anything, nothing, or a proof first."""

    GOOD = "good"
    OUT = "out"
    DUE = "due"


class Stay(NamedTuple):
    """How long a host is left out.

    Attributes:
        why: Its last fault.
        until: By the clock that faults were given with.
    """

    why: str
    until: float


class Quarantine:
    """Counts the faults of hosts, by name."""

    def __init__(self) -> None:
        self._hosts: dict[str, _Host] = {}

    def standing(self, name: str, *, now: float) -> Standing:
        """Tell what may be asked of a host."""
        stay = self.stay(name)
        if stay is None:
            return Standing.GOOD
        return Standing.OUT if now < stay.until else Standing.DUE

    def stay(self, name: str) -> Stay | None:
        """Give how long a host is left out; None if it is not."""
        host = self._hosts.get(name)
        return None if host is None else host.stay

    def names(self) -> list[str]:
        """Give the hosts that are left out, or have to prove themselves."""
        return [name for name, host in self._hosts.items() if host.stay is not None]

    def good(self, name: str) -> None:
        """Note that a host has fared well."""
        host = self._hosts.get(name)
        if host is not None and host.stay is None:
            del self._hosts[name]

    def fault(self, name: str, why: str, *, now: float) -> Stay | None:
        """Note a fault.

        Returns:
            How long the host is left out from now on; None if it is not, or was so.
        """
        host = self._hosts.setdefault(name, _Host())
        if host.stay is not None and now < host.stay.until:
            return None
        host.strikes += 1
        if host.strikes < STRIKES:
            return None
        pause = min(MAX_PAUSE, FIRST_PAUSE * 2.0 ** min(host.stays, 20))
        host.stays += 1
        host.stay = Stay(why, now + pause)
        return host.stay

    def proved(self, name: str) -> bool:
        """Let a host back: one more fault, and it is left out for longer.

        Returns:
            False if it was not left out.
        """
        host = self._hosts.get(name)
        if host is None or host.stay is None:
            return False
        host.stay, host.strikes = None, STRIKES - 1
        return True

    def release(self, name: str) -> bool:
        """Forget all about a host.

        Returns:
            False if it was not left out.
        """
        host = self._hosts.pop(name, None)
        return host is not None and host.stay is not None


class _Host:
    """What is known of a host.

    Attributes:
        strikes: Its faults in a row.
        stays: How often it was left out.
        stay: How long it is.
    """

    def __init__(self) -> None:
        self.strikes = 0
        self.stays = 0
        self.stay: Stay | None = None
