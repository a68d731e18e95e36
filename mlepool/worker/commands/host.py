"""The worker's host."""

from __future__ import annotations

import datetime

from mlepool.worker.registry import command

__all__ = ["get_time"]


@command
def get_time() -> datetime.datetime:
    """Give the host's time, with its time zone."""
    return datetime.datetime.now().astimezone()
