"""Ctrl-C while a job is waited for: the job goes on, and it is said how to find it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["leave_alone", "leaving_alone"]

logger = logging.getLogger("mlepool.client")


@contextmanager
def leaving_alone(
    release: Callable[[str], bool], job_id: str, host: str
) -> Iterator[None]:
    """On Ctrl-C disown the job, so that nothing on the way out stops it, and say so."""
    try:
        yield
    except KeyboardInterrupt:
        leave_alone(release, job_id, host)
        raise


def leave_alone(release: Callable[[str], bool], job_id: str, host: str) -> None:
    """Disown a job, and say that it goes on and how to come back to it."""
    if not release(job_id):
        return  # it waited for a link, and was not begun
    text = "job %s goes on on %s: attach(%r) follows it, stop(%r) ends it"
    logger.warning(text, job_id, host, job_id, job_id)
