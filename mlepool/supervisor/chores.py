"""What nobody waits for: done once the worker has been told what it waits for."""

from collections.abc import Callable

__all__ = ["Chores"]


class Chores:
    """What is left to do at the end of the loop's turn, in the order it came."""

    def __init__(self) -> None:
        self._waiting: list[Callable[[], object]] = []

    def add(self, chore: Callable[[], object]) -> None:
        """Leave something for the end of the turn."""
        self._waiting.append(chore)

    def run(self) -> None:
        """Do what was left; what that leaves is for the next turn."""
        waiting, self._waiting = self._waiting, []
        for chore in waiting:
            chore()
