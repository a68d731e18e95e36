"""What a group's call looks like: a table, equal outputs together, differences."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import NamedTuple

from mlepool.client.groups.slots import Slot
from mlepool.client.inventory.ranges import fold
from mlepool.client.listening.listener import AsyncListener, Status
from mlepool.client.listening.tails import tail_of
from mlepool.client.tables import Table
from mlepool.errors import RemoteError, SkippedError

__all__ = ["SameOutput", "SameOutputs", "diff_of", "grouped_of", "table_of"]

LINE_WIDTH = 80  # characters of a last line in a printed table
LINES_SHOWN = 40  # of an output, in a notebook
RULE = "-" * 15  # as clush -b has it


class SameOutput(NamedTuple):
    """Hosts whose output is the same.

    Attributes:
        hosts: Their names, folded: ``"gpu[1-3]"``.
        names: Their names, in the group's order.
        output: The output, stdout and stderr as they came. What a command returned,
            of one that returns a value; what kept a host from running it.
    """

    hosts: str
    names: list[str]
    output: str

    @property
    def title(self) -> str:
        """The hosts, and how many they are."""
        count = f" ({len(self.names)})" if len(self.names) > 1 else ""
        return f"{self.hosts}{count}"


class SameOutputs(list[SameOutput]):
    """Outputs that differ; ``str()`` shows them as ``clush -b`` does, notebooks too."""

    def __str__(self) -> str:
        parts = (f"{RULE}\n{one.title}\n{RULE}\n{one.output.rstrip()}" for one in self)
        return "\n".join(parts)

    def _repr_html_(self) -> str:
        from mlepool.client import html

        parts = []
        for one in self:
            lines = one.output.splitlines()
            shown = [("stdout", line) for line in lines[-LINES_SHOWN:]]
            parts.append(html.line_of([one.title]))
            parts.append(html.output_block(shown, more=len(lines) - len(shown)))
        return html.page(*parts)


def table_of(slots: Iterable[Slot]) -> Table:
    """Give a row for each host: how it stands, and the last that it said."""
    rows = [
        (
            slot.name,
            str(slot.listener.status),
            "" if slot.listener.exit_code is None else slot.listener.exit_code,
            f"{slot.listener.duration:.1f}",
            _last_line(slot),
        )
        for slot in slots
    ]
    headers = ("host", "status", "exit", "seconds", "last line")
    return Table(headers, rows, widths={"last line": LINE_WIDTH})


def grouped_of(slots: Iterable[Slot]) -> SameOutputs:
    """Put hosts with the same stdout and stderr together, the most hosts first.

    Hosts that have said nothing yet, and have not ended, are left out.
    """
    kinds: dict[str, list[Slot]] = {}
    for slot in slots:
        listener = slot.listener
        if listener.intake.is_over or listener.intake.output.end or slot.problem:
            kinds.setdefault(_key(slot), []).append(slot)
    found = []
    for alike in kinds.values():
        names = [one.name for one in alike]
        found.append(SameOutput(fold(names), names, _text(alike[0])))
    return SameOutputs(sorted(found, key=lambda one: -len(one.names)))


def diff_of(slots: Iterable[Slot]) -> str:
    """Compare each output with that of the most hosts, as a unified diff.

    Hosts that it could not run on are left out.
    """
    groups = grouped_of(one for one in slots if _problem(one) is None)
    if not groups:
        return ""
    common, *others = groups
    base = common.output.splitlines()
    parts = []
    for one in others:
        lines = difflib.unified_diff(
            base, one.output.splitlines(), common.hosts, one.hosts, lineterm=""
        )
        parts += list(lines)
    return "\n".join(parts) + "\n" if parts else ""


def _key(slot: Slot) -> str:
    """Give what is the same for hosts with the same output, and for no others.

    In which order stdout and stderr came does not count: that is left to chance.
    """
    if _problem(slot) is not None or slot.listener.gives_value:
        return f"said {_text(slot)}"
    return slot.listener.intake.output.digest()


def _text(slot: Slot) -> str:
    listener = slot.listener
    problem = _problem(slot)
    if problem is not None:
        return _kind_and_cause(problem)
    if listener.gives_value and listener.intake.is_over:
        return str(listener.value)
    encoding = listener.options.encoding or "utf-8"
    text = listener.intake.output.data(None).decode(encoding, "replace")
    if not listener.intake.output.is_whole:
        text = f"[mlepool: what came before has left memory; read() has it]\n{text}"
    return text


def _last_line(slot: Slot) -> str:
    listener = slot.listener
    problem = _problem(slot)
    if problem is not None:
        return _in_short(problem).partition("\n")[0]
    if listener.gives_value:
        value = listener.value
        return "" if value is None else str(value).strip().rpartition("\n")[2]
    tail = tail_of(listener.intake.output, 3, encoding=listener.options.encoding)
    return next((text for _, text in reversed(tail.lines) if text.strip()), "")


def _problem(slot: Slot) -> Exception | None:
    """Give why a host has no output of its own, or not all of it."""
    listener = slot.listener
    intake = listener.intake
    refused = intake.outcome is not None and intake.outcome.failure is not None
    if refused or intake.problem is not None or listener.failure is not None:
        return listener.error
    if listener.gives_value or listener.status is Status.LOST:
        return listener.error
    return None if intake.is_over else _waiting(slot, listener)


def _kind_and_cause(problem: Exception) -> str:
    """Say what is wrong in the same words for each host that it is wrong on."""
    if isinstance(problem, RemoteError):
        return f"{problem.type_name}: {problem.message}"
    cause = getattr(problem, "cause", None) or problem
    return f"{type(problem).__name__}: {cause}"


def _in_short(problem: Exception) -> str:
    """Say what is wrong in a row that begins with the host's name."""
    if isinstance(problem, RemoteError):
        return problem.message or problem.type_name
    if isinstance(problem, SkippedError):
        return f"skipped: {problem.cause}"
    return str(problem)


def _waiting(slot: Slot, listener: AsyncListener) -> Exception | None:
    return slot.problem if listener.is_to_come else None
