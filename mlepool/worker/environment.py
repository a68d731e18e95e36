"""What jobs inherit."""

from __future__ import annotations

import os

__all__ = ["base_environment"]


def base_environment() -> dict[bytes, bytes]:
    """Give what jobs inherit: the worker's environment, without our settings."""
    inherited = {
        name: value
        for name, value in os.environb.items()
        if not name.startswith(b"MLEPOOL_")
    }
    return {**inherited, b"PYTHONUNBUFFERED": b"1"}
