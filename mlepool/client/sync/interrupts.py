"""Ctrl-C while a job is waited for: the job goes on, and it is said how to find it."""

from __future__ import annotations

import logging
from collections.abc import Callable

__all__ = ["leave_alone"]

logger = logging.getLogger("mlepool.client")


def leave_alone(release: Callable[[str], bool], job_id: str, host: str) -> None:
    """Disown a job, so that nothing on the way out stops it, and say how to find it."""
    if not release(job_id):
        return  # it waited for a link, and was not begun
    text = "job %s goes on on %s: attach(%r) follows it, stop(%r) ends it"
    logger.warning(text, job_id, host, job_id, job_id)
