"""Exceptions as data: what a client is told of what went wrong."""

from __future__ import annotations

import os
import time
import traceback

from mlepool.errors import WorkerBusyError
from mlepool.wire.messages import Failure, Outcome

__all__ = ["busy", "failed", "failure_of"]


def failed(exc: Exception, end: int = 0) -> Outcome:
    """Tell of what a call has raised.

    Args:
        exc: What it raised.
        end: Journal position up to which its output was received.
    """
    text = "".join(traceback.format_exception(exc))
    now = time.time()
    failure = failure_of(exc, text)
    return Outcome("FAILED", failure=failure, end=end, started=now, ended=now)


def failure_of(exc: BaseException, traceback: str) -> Failure:
    """Make data of an exception."""
    filename = getattr(exc, "filename", None)
    return Failure(
        type(exc).__name__,
        _sendable(getattr(exc, "strerror", None) or str(exc)),
        _sendable(traceback),
        getattr(exc, "errno", None),
        _sendable(os.fsdecode(filename)) if isinstance(filename, str | bytes) else None,
    )


def _sendable(text: str) -> str:
    """Write what is no UTF-8 in it, as in a file's name, as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def busy(text: str) -> WorkerBusyError:
    """Make what says that there is no room for a job."""
    error = WorkerBusyError()
    error.message = text
    return error
