"""How what several hosts say is shown: live, gathered, or in JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

from msgspec import structs

from mlepool.cli.printer import Printer

__all__ = ["Ending", "JsonLines", "Live", "Output"]


class Ending(NamedTuple):
    """How a command has ended on one host.

    Attributes:
        status: As a listener has it; ``SKIPPED`` where it was not begun.
        exit_status: What it is to the shell; None where it was not begun.
        id: The job's id; None if there was none.
        exit_code: Its own: negative for a signal; None if it has none.
        duration: Seconds.
        error: What was said of it; empty for nothing.
    """

    status: str
    exit_status: int | None
    id: str | None = None
    exit_code: int | None = None
    duration: float | None = None
    error: str = ""


class Output(Protocol):
    """What is told of the hosts of one command."""

    def print(self, name: str, messages: Iterable[Any]) -> None:
        """Show what a host has printed."""

    def complain(self, name: str, text: str) -> None:
        """Show what is to be said of a host."""

    def left(self, name: str, job_id: str) -> None:
        """Show that a job was begun and is left alone."""

    def ended(self, name: str, ending: Ending) -> None:
        """Show that a host has ended."""

    def close(self) -> None:
        """Show what was kept for the end, also if that came too early."""


class Live(Printer):
    """Prints what comes when it comes."""

    def left(self, name: str, job_id: str) -> None:
        """Print the job's id."""
        print(f"{name}: job {job_id}", flush=True)

    def ended(self, name: str, ending: Ending) -> None:
        """Print nothing: the exit status tells it."""

    def close(self) -> None:
        """Print nothing: nothing was kept."""


class JsonLines:
    """Prints an object for each event, one a line."""

    def print(self, name: str, messages: Iterable[Any]) -> None:
        """Print lines as objects; of one that is rewritten only the last state."""
        for one in messages:
            if getattr(one, "end", "\n") != "\r":
                self._write("line", name, stream=str(one.stream), text=str(one))

    def complain(self, name: str, text: str) -> None:
        """Print what is said of a host."""
        self._write("note", name, text=text)

    def say(self, name: str, *lines: str) -> None:
        """Print what is said of a transfer's changes."""
        for line in lines:
            self._write("change", name, text=line)

    def done(self, name: str, value: Any) -> None:
        """Print what a transfer has done."""
        facts = structs.asdict(value)
        facts["problems"] = [structs.asdict(one) for one in value.problems]
        self._write("done", name, **facts)

    def left(self, name: str, job_id: str) -> None:
        """Print the job's id."""
        self._write("left", name, id=job_id)

    def ended(self, name: str, ending: Ending) -> None:
        """Print how a host has ended."""
        self._write("ended", name, **ending._asdict())

    def close(self) -> None:
        """Print nothing: nothing was kept."""

    def _write(self, event: str, name: str, **facts: Any) -> None:
        print(json.dumps({"event": event, "host": name, **facts}), flush=True)
