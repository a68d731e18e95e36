"""What is known of a worker: as it was at the last welcome, and what changed since."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlepool.errors import RemoteProtocolError

__all__ = ["MAX_NAMES", "WorkerState", "copied"]

MAX_NAMES = 4096  # a worker that is well tells 20 and its user's own


def copied(value: Any) -> Any:
    """Copy what came over the wire, with all that is in it."""
    if isinstance(value, dict):
        return {key: copied(one) for key, one in value.items()}
    return [copied(one) for one in value] if isinstance(value, list) else value


class WorkerState:
    """A worker's state, as far as this side has been told.

    Attributes:
        values: By name. Never changed in place: who has it may keep it.
    """

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def copy(self) -> dict[str, Any]:
        """Give what is known to somebody who may change it."""
        return {name: copied(value) for name, value in self.values.items()}

    def replace(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Take a whole new state; it may be that of another life of the worker.

        Returns:
            What has changed: names and values, None for what is no longer there.
        """
        gone = dict.fromkeys(name for name in self.values if name not in values)
        return self.merge({**gone, **values})

    def merge(self, changes: Any) -> dict[str, Any]:
        """Take changes; None takes a value away.

        Returns:
            Those that are any.

        Raises:
            RemoteProtocolError: If they are none, or too many.
        """
        if not isinstance(changes, Mapping):
            raise RemoteProtocolError("a state-change without names")
        old = self.values
        changed = {name: one for name, one in changes.items() if old.get(name) != one}
        whole = {**old, **changed}
        if len(whole) > MAX_NAMES:
            raise RemoteProtocolError(f"a state with over {MAX_NAMES} names")
        self.values = {name: one for name, one in whole.items() if one is not None}
        return changed
