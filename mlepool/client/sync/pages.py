"""What notebooks show of a listener, a connection, a pool: HTML of what is known here.

Nothing is asked of a worker.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mlepool.client.connection import AsyncConnection
from mlepool.client.groups.slots import Slot
from mlepool.client.groups.views import table_of
from mlepool.client.html import (
    Cell,
    line_of,
    output_block,
    page,
    progress_bar,
    table,
)
from mlepool.client.listening.listener import AsyncListener, Status
from mlepool.client.listening.output import Output
from mlepool.client.listening.tails import tail_of
from mlepool.wire.records import YIELDED
from mlepool.wire.values import Progress, SyncProgress

__all__ = [
    "connection_page",
    "connections_page",
    "group_page",
    "is_live",
    "listener_page",
]

SHOWN_LINES = 20  # of output: as many as fit beside what else a notebook has
SHOWN_HOSTS = 50  # rows; a page for a thousand would be as long as a book
LINE_WIDTH = 300  # characters of a last line
MAX_COUNTED = 1024**2  # bytes of output whose lines are counted, for each view
GIB = 1024**3


def is_live(listener: AsyncListener) -> bool:
    """Tell if more may come of it."""
    return not listener.intake.is_over


def took(listener: AsyncListener) -> str:
    """Say how long it has run: whole seconds while it does."""
    seconds = listener.duration
    if is_live(listener):
        seconds = float(int(seconds))
    if seconds >= 3600:
        return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:.0f} min"
    if seconds >= 60:
        return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
    return f"{seconds:.0f} s" if is_live(listener) else f"{seconds:.1f} s"


def listener_page(listener: AsyncListener) -> str:
    """Show a command: how it stands, and the last lines of its output."""
    output, encoding = listener.intake.output, listener.options.encoding
    tail = tail_of(output, SHOWN_LINES, encoding=encoding)
    lines = _count(output)
    more = 0 if not tail.is_cut else -1 if lines is None else lines - len(tail.lines)
    return page(
        line_of(_status_cells(listener)),
        _progress(listener),
        output_block(tail.lines, more=more),
        line_of([Cell(_why(listener), "why")]),
    )


def group_page(
    slots: Iterable[Slot], command: str, *, counts: Mapping[str, int]
) -> str:
    """Show a call on many hosts: a row each; of very many first those that need a look.

    Args:
        slots: The hosts.
        command: What runs.
        counts: How many hosts are at what: ``{"succeeded": 2, ...}``.
    """
    every = list(slots)
    if len(every) > SHOWN_HOSTS:
        every.sort(key=_calm)
    shown = every[:SHOWN_HOSTS]
    rows = [
        (
            Cell(name, "code"),
            Cell(status, "status"),
            Cell(code, "number"),
            Cell("" if slot.listener.is_to_come else took(slot.listener), "number"),
            Cell(line[:LINE_WIDTH], "code"),
        )
        for slot, (name, status, code, _, line) in zip(
            shown, table_of(shown), strict=True
        )
    ]
    said = [f"{count:,} {word}" for word, count in counts.items() if count]
    more = len(every) - len(shown)
    return page(
        line_of([Cell(_short(command), "code"), _hosts(every), *said]),
        table(("host", "", "exit", "took", "last line"), rows),
        line_of([Cell(f"... and {more:,} more" if more else "", "dim")]),
    )


def connection_page(connection: AsyncConnection) -> str:
    """Show a worker: how the connection stands, and what its host is."""
    state = connection.state
    rows = [
        (Cell(name, "dim"), text) for name, text in _facts(connection, state) if text
    ]
    words = (Cell(state["connection"], "status"), Cell(connection.name, "code"))
    return page(line_of(words), table((), rows) if rows else "")


def connections_page(connections: Iterable[AsyncConnection]) -> str:
    """Show many workers, one a row; of very many those that come first."""
    every = list(connections)
    headers = ("host", "link", "now", "system", "cores", "memory", "GPUs", "labels")
    rows = [_row(one) for one in every[:SHOWN_HOSTS]]
    up = sum(one.is_connected for one in every)
    more = len(every) - len(rows)
    return page(
        line_of([_hosts(every), f"{up:,} connected"]),
        table(headers, rows) if rows else "",
        line_of([Cell(f"... and {more:,} more" if more else "", "dim")]),
    )


def _hosts(every: list[Any]) -> str:
    return "1 host" if len(every) == 1 else f"{len(every):,} hosts"


def _calm(slot: Slot) -> int:
    """Tell how little a host needs a look: failures first, then what runs."""
    listener = slot.listener
    return 2 if listener.ok else 1 if is_live(listener) else 0


def _count(output: Output) -> int | None:
    """Count lines, where they are all there and that takes no time."""
    is_little = output.is_whole and sum(output.offsets.values()) <= MAX_COUNTED
    return output.lines() if is_little and not output.offsets[YIELDED] else None


def _status_cells(listener: AsyncListener) -> list[Any]:
    code, place = listener.exit_code, listener.place
    return [
        Cell(listener.status, "status"),
        Cell(_short(listener.command), "code"),
        f"on {listener.host}",
        f"place {place} in line" if place else took(listener),
        "" if code is None else f"exit {code}",
        Cell(f"job {listener.id}", "dim"),
    ]


def _short(command: str) -> str:
    first, newline, _ = command.strip().partition("\n")
    return f"{first[:200]} ..." if newline or len(first) > 200 else first


def _progress(listener: AsyncListener) -> str:
    """Show what says itself how far it is; what rewrites a line is in the output."""
    progress = listener.progress
    if isinstance(progress, Progress):
        step, total, percent = progress.step, progress.total, progress.percent
        if percent is None and step is not None and total:
            percent = 100 * step / total
        steps = "" if step is None else f"{step} of {total or '?'}"
        return progress_bar(percent, f"{steps} {progress.message}".strip())
    if isinstance(progress, SyncProgress) and is_live(listener):
        total = progress.bytes_total
        percent = 100 * progress.bytes / total if total else None
        return progress_bar(percent, f"{progress.files} of {progress.files_total}")
    return ""


def _why(listener: AsyncListener) -> str:
    """Say what failed, where exit status and output do not."""
    error = listener.error
    if error is None or (listener.exit_code and listener.status is Status.FAILED):
        return ""
    first, _, _ = str(error).partition("\n")
    return f"{type(error).__name__}: {first[:500]}"


def _facts(
    connection: AsyncConnection, state: dict[str, Any]
) -> Iterable[tuple[str, str]]:
    cpu = state.get("cpu") or {}
    yield "now", str(state.get("run_status", ""))
    yield "system", _system(state)
    yield "cpu", f"{cpu.get('threads', '')} x {cpu.get('model', '')}" if cpu else ""
    yield "memory", _memory(state)
    yield "GPUs", _gpus(state)
    yield "labels", _labels(connection, state)
    yield "mlepool", str(state.get("version", ""))


def _row(connection: AsyncConnection) -> tuple[Any, ...]:
    state = connection.state
    cpu = state.get("cpu") or {}
    return (
        Cell(connection.name, "code"),
        Cell(state["connection"], "status"),
        state.get("run_status", ""),
        _system(state),
        Cell(cpu.get("threads", ""), "number"),
        Cell(_memory(state), "number"),
        _gpus(state),
        _labels(connection, state),
    )


def _system(state: dict[str, Any]) -> str:
    return str(state.get("distribution") or state.get("os") or "")


def _memory(state: dict[str, Any]) -> str:
    total = (state.get("memory") or {}).get("total")
    return f"{total / GIB:.0f} GiB" if total else ""


def _gpus(state: dict[str, Any]) -> str:
    names = [str(one.get("name", "")) for one in state.get("gpu") or ()]
    kinds = dict.fromkeys(names)
    return ", ".join(f"{names.count(one)} x {one}" for one in kinds)


def _labels(connection: AsyncConnection, state: dict[str, Any]) -> str:
    labels = {**(state.get("labels") or {}), **connection.labels}
    return ", ".join(f"{name}={value}" for name, value in labels.items())
