"""What a worker tells of itself, and who is told when it changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from mlepool.config import WorkerConfig
from mlepool.settings.properties import OWN_KEYS, check_secrets

__all__ = ["MAX_STATE", "RunStatus", "StateBoard", "properties_of"]

MAX_STATE = 256 * 1024  # bytes, encoded: with the catalogue it goes into one frame
TELL_AFTER = 0.25  # seconds; clients with a thousand short jobs are told little


class StateBoard:
    """The state that clients see: facts, settings, what goes on. Never a secret.

    Args:
        changed: Told what has changed: names and their new values, None for those
            that are no longer there.
    """

    def __init__(self, changed: Callable[[dict[str, Any]], None]) -> None:
        self._changed = changed
        self._state: dict[str, Any] = {}

    def get(self) -> dict[str, Any]:
        """Give the whole state."""
        return dict(self._state)

    def update(self, **values: Any) -> None:
        """Note values; who is connected is told of those that are other ones now.

        None takes a value away.

        Raises:
            ValueError: If a name, however deep, is that of a secret, or the state
                would be over 256 KiB. Nothing is noted then.
        """
        own = self._state
        new = {name: one for name, one in values.items() if own.get(name) != one}
        if not new:
            return
        check_secrets({name: new[name] for name in new if name not in OWN_KEYS})
        whole = {**own, **new}
        state = {name: value for name, value in whole.items() if value is not None}
        size = len(msgspec.msgpack.encode(state))
        if size > MAX_STATE:
            raise ValueError(
                f"a state of {size} bytes is over the limit of {MAX_STATE}"
            )
        self._state = state
        self._changed(new)


class RunStatus:
    """Says on the board if anything runs: a moment late, so not for each short job.

    Args:
        board: Where it is said, as ``run_status``.
        is_busy: Tells if anything runs.
    """

    def __init__(self, board: StateBoard, is_busy: Callable[[], bool]) -> None:
        self._board = board
        self._is_busy = is_busy
        self._timer: asyncio.TimerHandle | None = None
        self._tell()

    def note(self) -> None:
        """Note that a job has begun or ended."""
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(TELL_AFTER, self._tell)

    def close(self) -> None:
        """Say no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _tell(self) -> None:
        self._timer = None
        self._board.update(run_status="running" if self._is_busy() else "idle")


def properties_of(config: WorkerConfig, *, before: WorkerConfig) -> dict[str, Any]:
    """Give what settings say for the state; None for what they said before."""
    gone = dict.fromkeys(before.extra)
    return {**gone, **config.extra, "name": config.name, "labels": config.labels}
