"""Ids of what is asked for, made before anything is sent."""

from __future__ import annotations

import os

__all__ = ["new_job_id"]


def new_job_id() -> str:
    """Make a command's id: 64 random bits, made before anything is sent."""
    return os.urandom(8).hex()
