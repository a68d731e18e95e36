"""A command in one line: what its listener's repr says."""

from __future__ import annotations

import signal

from mlepool.client.listening.facts import Facts, Status
from mlepool.errors import RemoteError

__all__ = ["summary"]

MAX_TEXT = 200  # characters of a command, or of what failed
MIB = 1024**2


def summary(facts: Facts) -> str:
    """Say what runs where, how it stands, and why it has failed.

    It is safe in any thread, and asks nothing of the worker.
    """
    head = f"{'run ' if facts.is_run else ''}{_short(facts.command)!r} on {facts.host}"
    parts = [_standing(facts), _output(facts)]
    return f"{head}: {', '.join(part for part in parts if part)}"


def _standing(facts: Facts) -> str:
    if facts.status is Status.PENDING:
        return f"PENDING, {facts.place} in line" if facts.place else "PENDING"
    if facts.status is Status.RUNNING:
        return f"RUNNING {_time(facts.duration, whole=True)}"
    why = _why(facts)
    after = " after" if why else ""
    took = _time(facts.duration, whole=False)
    return f"{facts.status}{f' ({why})' if why else ''}{after} {took}"


def _why(facts: Facts) -> str:
    """Say what was wrong; empty if nothing was."""
    if facts.status is Status.SUCCEEDED:
        return ""
    if facts.exit_code is None or facts.status is Status.LOST:
        is_stopped = facts.status is Status.STOPPED and facts.reason
        return _short(facts.reason if is_stopped else _told(facts.error))
    if facts.signal is None:
        text = f"exit code {facts.exit_code}"
    else:
        text = _signal_name(facts.signal)
    is_known = facts.status is Status.FAILED and facts.reason
    return f"{text}, {_short(facts.reason)}" if is_known else text


def _told(error: Exception | None) -> str:
    """Give an error's type and text; the host stands before it."""
    if isinstance(error, RemoteError):
        return f"{error.type_name}: {error.message}".removesuffix(": ")
    return f"{type(error).__name__}: {error}" if error else ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _output(facts: Facts) -> str:
    """Say how much has come: lines, or where some have left memory how many MiB."""
    output = facts.intake.output
    lines = output.lines()
    if facts.status is Status.PENDING:
        return ""
    if not output.is_whole:
        return f"{sum(output.offsets.values()) / MIB:,.0f} MiB"
    if not lines and not facts.is_run:
        return ""
    return f"{lines:,} line{'' if lines == 1 else 's'}"


def _time(seconds: float, *, whole: bool) -> str:
    """Give hours and minutes, minutes and seconds, or seconds."""
    if seconds >= 3600:
        return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:.0f} min"
    if seconds >= 60:
        return f"{seconds // 60:.0f} min {seconds % 60 // 1:.0f} s"
    return f"{seconds // 1:.0f} s" if whole or seconds >= 10 else f"{seconds:.1f} s"


def _short(text: str) -> str:
    first, newline, _ = text.strip().partition("\n")
    return f"{first[:MAX_TEXT]} ..." if newline or len(first) > MAX_TEXT else first
