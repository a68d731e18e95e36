"""What all links of a worker share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from mlepool.config import WorkerConfig
from mlepool.wire.messages import Hello
from mlepool.worker.access.gate import Gate
from mlepool.worker.answers import Answers
from mlepool.worker.drain import Drain
from mlepool.worker.jobs import JobTable
from mlepool.worker.live import LiveConfig
from mlepool.worker.registry import Registry
from mlepool.worker.telemetry.sampler import Telemetry
from mlepool.worker.trees import Trees

__all__ = ["House"]


class House(Protocol):
    """The worker, as its links see it."""

    gate: Gate
    registry: Registry
    jobs: JobTable
    answers: Answers
    trees: Trees
    drain: Drain
    root: Path
    live: LiveConfig
    telemetry: Telemetry

    @property
    def config(self) -> WorkerConfig:
        """The settings that count now; some change while the worker runs."""

    @property
    def name(self) -> str:
        """What the worker calls itself now."""

    def on_reconfigured(self, hook: Callable[[WorkerConfig], None]) -> None:
        """Have a function called with all settings, after some have changed."""

    def hello(self) -> Hello:
        """Make this worker's first message, with a fresh nonce."""

    def state(self) -> dict[str, Any]:
        """Give what clients may know of this worker."""

    def left(self, service: Any) -> None:
        """Note that a client is gone."""
