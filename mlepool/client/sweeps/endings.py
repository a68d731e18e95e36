"""How attempts end: what is written down of them, and the proof that one is dead."""

from __future__ import annotations

from typing import Any, NamedTuple

from mlepool.client.connection import AsyncConnection
from mlepool.client.listening.listener import AsyncListener
from mlepool.client.listening.output import EvictedError
from mlepool.client.sweeps.records import Ended
from mlepool.errors import ClientError, RemoteError

__all__ = ["Verdict", "bury", "ended", "last_line"]

GRACE = 2.0  # seconds between the signals to what must not run any more
MAX_LAST = 200  # characters of the last line
MAX_REASON = 500
MAX_POINTS = 100  # names of points in one row


class Verdict(NamedTuple):
    """What is known of an attempt that was to be dead.

    Attributes:
        is_known: False if the host could not be asked.
        is_dead: True if nothing of it runs, and nothing will.
        status: How it had ended, if the host knows.
        text: All that, in words.
    """

    is_known: bool
    is_dead: bool
    status: str
    text: str


async def bury(connection: AsyncConnection, job_id: str) -> Verdict:
    """Stop a job that must not run any more; one that has ended is left as it is."""
    try:
        listener = await connection.call_named(
            "stop", job_id, signal="SIGTERM", grace=GRACE, raise_error=True
        )
    except LookupError:
        return Verdict(True, False, "", "its host knows nothing of it (any more)")
    except (RemoteError, AttributeError) as exc:  # it may not offer us to stop
        return Verdict(True, False, "", f"it could not be stopped: {exc}")
    except ClientError as exc:
        return Verdict(False, False, "", str(exc))
    report = listener.value
    if not report.complete:
        pids = ", ".join(str(one.pid) for one in report.survivors)
        return Verdict(True, False, report.status, f"it was stopped, but for {pids}")
    return Verdict(True, True, report.status, f"it is {report.status}")


def ended(number: int, listener: AsyncListener) -> Ended:
    """Write down how a run has ended."""
    outcome = listener.intake.outcome
    assert outcome is not None
    reason = outcome.reason
    if not reason and (outcome.failure or listener.failure):
        reason = str(listener.error)
    status = "FAILED" if listener.failure is not None else outcome.status
    return Ended(
        *(number, status, outcome.exit_code, outcome.started),
        seconds=listener.duration,
        reason=reason[:MAX_REASON],
        last=last_line(listener),
        points=_last_points(listener),
    )


def last_line(listener: AsyncListener) -> str:
    """Give the end of what was printed, as one line."""
    output = listener.intake.output
    if not output.end:
        return ""
    data = b"".join(one.data for one in output.batch(output.end - 1))
    lines = data[-4 * MAX_LAST :].decode("utf-8", "replace").split("\n")
    texts = [line.rpartition("\r")[2] or line.strip("\r") for line in lines]
    return next((one for one in reversed(texts) if one.strip()), "")[:MAX_LAST]


def _last_points(listener: AsyncListener) -> dict[str, Any]:
    try:
        points = listener.points
    except EvictedError:
        return {}
    names = list(points)[:MAX_POINTS]
    return {name: _y(points[name][-1]) for name in names}


def _y(point: tuple[int | float, ...]) -> int | float:
    return point[1] if len(point) > 1 else point[0]
