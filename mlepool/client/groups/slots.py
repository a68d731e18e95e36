"""The hosts of one call: what each of them is at."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mlepool.client.connection import AsyncConnection
from mlepool.client.listening.listener import AsyncListener

__all__ = ["Slot"]


class Slot:
    """One host of a call.

    Attributes:
        name: Its name.
        connection: The way to it.
        listener: The handle of its latest attempt.
        attempts: The listeners of all attempts that had begun and have ended.
        problem: Why it could not be reached, or the call did not fit.
        began: When the latest attempt did, by the loop's clock.
        is_open: True while an attempt runs.
        is_drained: True while its output comes whether it is read or not.
        is_forgone: True once it was stopped before it had begun.
        task: Connects it, while that takes.
        heard: Called when something has come for its listener; None before and after.
    """

    def __init__(self, connection: AsyncConnection, listener: AsyncListener) -> None:
        self.name = connection.name
        self.connection = connection
        self.listener = listener
        self.attempts: list[AsyncListener] = []
        self.problem: Exception | None = None
        self.began = 0.0
        self.is_open = False
        self.is_drained = False
        self.is_forgone = False
        self.task: asyncio.Task[None] | None = None
        self.heard: Callable[[], None] | None = None
