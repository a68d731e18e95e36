"""What happens to a connection, and who wants to know of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

__all__ = ["EVENTS", "Callbacks"]

logger = logging.getLogger("mlepool.client")

# A worker's own events are named here, too: a name that is mistyped is an error at
# once, and not a callback that never comes.
EVENTS = (
    "connected",
    "reconnecting",
    "reconnected",
    "disconnected",
    "lost",
    "state-change",
    "catalogue",
    "metrics",
    "quarantined",
    "released",
)


class Callbacks:
    """The functions to call on events, by the event's name."""

    def __init__(self) -> None:
        self._callbacks: dict[str, list[Callable[..., object]]] = {}

    def add(self, event: str, callback: Callable[..., object]) -> None:
        """Have a function called on an event.

        Raises:
            ValueError: If there is no such event; the text names those that are.
            TypeError: If it can't be called.
        """
        if event not in EVENTS:
            names = ", ".join(EVENTS)
            raise ValueError(f"there is no event {event!r}; there are: {names}")
        if not callable(callback):
            raise TypeError(f"a callback is a function, not {type(callback).__name__}")
        self._callbacks.setdefault(event, []).append(callback)

    def has(self, event: str) -> bool:
        """Tell if anybody wants to know of an event."""
        return event in self._callbacks

    def emit(self, event: str, *data: Any) -> None:
        """Call those that want to know. What they raise is logged."""
        for callback in tuple(self._callbacks.get(event, ())):
            try:
                callback(*data)
            except (Exception, SystemExit):
                # Somebody else's code: it must not break the connection.
                logger.exception("a callback for %r failed", event)
