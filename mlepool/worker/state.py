"""What a worker tells of itself, and who is told when it changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["StateBoard"]


class StateBoard:
    """The state that clients see: facts, settings, what goes on. Never a secret.

    Args:
        changed: Told what has changed: names and their new values.
    """

    def __init__(self, changed: Callable[[dict[str, Any]], None]) -> None:
        self._changed = changed
        self._state: dict[str, Any] = {}

    def get(self) -> dict[str, Any]:
        """Give the whole state."""
        return dict(self._state)

    def update(self, **values: Any) -> None:
        """Note values; who is connected is told of those that are other ones now."""
        new = {
            name: value
            for name, value in values.items()
            if name not in self._state or self._state[name] != value
        }
        self._state.update(new)
        if new:
            self._changed(new)
