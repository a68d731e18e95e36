"""Output that comes as fast as it can, while somebody waits for the ends."""

from __future__ import annotations

from collections.abc import Iterable

from mlepool.client.groups.slots import Slot

__all__ = ["Drain"]


class Drain:
    """Drains the attempts that are open while that is wanted, read or not."""

    def __init__(self) -> None:
        self._is_on = False

    def turn(self, slots: Iterable[Slot], *, on: bool) -> None:
        """Drain all of a call's hosts from now on, or none."""
        if on == self._is_on:
            return
        self._is_on = on
        for slot in slots:
            self.follow(slot)

    def follow(self, slot: Slot) -> None:
        """Begin or end to drain a host: it stands otherwise now."""
        wanted = slot.is_open and self._is_on
        if wanted != slot.is_drained:
            slot.is_drained = wanted
            intake = slot.listener.intake
            intake.begin_drain() if wanted else intake.end_drain()
