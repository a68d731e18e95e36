"""What is told of a connection and its worker, and to whom."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mlepool.client.events import Callbacks
from mlepool.client.state import WorkerState, copied
from mlepool.client.telemetry import MetricsFeed
from mlepool.wire.telemetry import JobSample, Sample

__all__ = ["Tidings"]


class Tidings:
    """What a connection tells: how it stands, its worker's state, samples, events."""

    _state: str
    _worker: WorkerState
    _callbacks: Callbacks
    _feed: MetricsFeed

    @property
    def state(self) -> dict[str, Any]:
        """What the worker tells of itself: id, name, run_status, labels, os, cpu, ...

        It stays current while connected, and after each reconnect; what is given is a
        copy, to keep or to change. With ``connection``: new, connected, reconnecting,
        disconnected, lost (given up) or closed.
        """
        return {**self._worker.copy(), "connection": self._state}

    def on(self, event: str, callback: Callable[..., object]) -> None:
        """Have a function called on an event.

        Args:
            event: ``"connected"`` and ``"disconnected"`` (by this side),
                ``"reconnecting"`` (the link was lost), ``"reconnected"``, ``"lost"``
                (given up), or the worker's own ``"state-change"`` (given as
                ``{"state": ..., "changed": ...}``: all of :attr:`state`, and what is
                new in it, None for what is gone) and ``"catalogue"`` (it has other
                commands now; they are given as :attr:`commands`), or ``"metrics"``
                (a :class:`~mlepool.Sample` was taken; those that were kept while
                nobody had them come first, and are let go as the callback returns);
                ``"quarantined"`` (groups leave this host out for now; given as ``why``,
                and ``until`` when) and ``"released"`` (they do no more).
            callback: Called with this connection; on ``"state-change"``,
                ``"catalogue"``, ``"metrics"`` and ``"quarantined"`` also with what is
                given then. What it raises is logged.

        Raises:
            ValueError: If there is no such event.
        """
        self._callbacks.add(event, callback)
        if event == "metrics":
            self._feed.collect()

    def tell(self, event: str, *data: Any) -> None:
        """Call those who want to know of an event."""
        self._callbacks.emit(event, self, *data)

    def job_metrics(self, job_id: str) -> JobSample | None:
        """Give what a job of the worker uses, as far as that is known."""
        return self._feed.job(job_id)

    def _tell_change(self, changed: dict[str, Any]) -> None:
        if changed and self._callbacks.has("state-change"):
            data = {"state": self.state, "changed": copied(changed)}
            self._callbacks.emit("state-change", self, data)

    def _tell_sample(self, sample: Sample) -> None:
        self._callbacks.emit("metrics", self, sample)
