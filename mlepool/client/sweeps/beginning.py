"""How a sweep begins: with a new plan, or one that is there already."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mlepool.client.connection import AsyncConnection
from mlepool.client.listening.listener import AsyncListener
from mlepool.client.sweeps.driver import Driver
from mlepool.client.sweeps.fitness import Objection, check_hosts, objection_to
from mlepool.client.sweeps.methods import note_sweep
from mlepool.client.sweeps.orders import make_head
from mlepool.client.sweeps.plan import FINAL, RunState
from mlepool.client.sweeps.plan_file import PlanFile, new_sweep_id, plan_path
from mlepool.client.sweeps.records import Halted, Head, Repeated
from mlepool.client.sweeps.starts import Starts
from mlepool.client.sweeps.submissions import Line
from mlepool.client.sweeps.sweep import AsyncSweep

__all__ = ["begin_sweep", "resume_sweep", "submit"]

# Those that are served, by hosts and by what a run needs.
_lines: dict[tuple[object, ...], Line] = {}


async def begin_sweep(
    connections: Sequence[AsyncConnection],
    command: str | Sequence[Any],
    keywords: Mapping[str, Any],
    *,
    axes: Mapping[str, Any] | None,
    rows: Iterable[Mapping[str, Any]] | None,
    plan: str | os.PathLike[str] | None,
) -> AsyncSweep:
    """Make a plan and begin to drive it; see ``map``."""
    connections = _open_hosts(connections)
    sweep_id = new_sweep_id()
    head = make_head(sweep_id, command, keywords, axes=axes, rows=rows)
    objection = _objection_of(head)
    check_hosts(connections, where=head.where, slots=head.slots, objection=objection)
    path = plan_path(plan, sweep_id)
    file = await asyncio.to_thread(PlanFile.make, path, head)
    return _drive(file, connections, objection)


async def resume_sweep(
    connections: Sequence[AsyncConnection],
    plan: str | os.PathLike[str],
    *,
    failed: bool,
) -> AsyncSweep:
    """Go on with a plan; see ``resume``."""
    connections = _open_hosts(connections)
    path = plan_path(plan, "")
    file = await asyncio.to_thread(PlanFile.open, path)
    try:
        if failed:
            _begin_again(file)
        return _drive(file, connections, _objection_of(file.plan.head))
    except BaseException:
        file.close()
        raise


def submit(
    connections: Sequence[AsyncConnection],
    command: str | Sequence[Any],
    keywords: Mapping[str, Any],
    *,
    where: str,
    slots: int | dict[str, int] | None,
) -> AsyncListener:
    """Have a run wait for a slot; see ``submit`` of a pool."""
    connections = _open_hosts(connections)
    gpus = keywords.get("gpus", 0)
    if not isinstance(gpus, int):
        raise TypeError(f"gpus is a number, not {gpus!r}")
    objection = objection_to(where, slots=slots, gpus=gpus)
    check_hosts(connections, where=where, slots=slots, objection=objection)
    key = (frozenset(connections), where, repr(slots), gpus)
    for old in [one for one, line in _lines.items() if line.is_over]:
        del _lines[old]
    line = _lines.get(key)
    if line is None:
        line = Line(connections, objection=objection, slots=slots, gpus=gpus)
        _lines[key] = line
        note_sweep(line, connections)
    return line.add(command, keywords)


def _open_hosts(connections: Sequence[AsyncConnection]) -> list[AsyncConnection]:
    """Give who can run anything: the others were closed for good.

    Raises:
        ValueError: If there is nobody.
    """
    found = [one for one in connections if not one.is_closed]
    if not found:
        raise ValueError("there is no host in this pool or group (any more)")
    return found


def _drive(
    file: PlanFile, connections: Sequence[AsyncConnection], objection: Objection
) -> AsyncSweep:
    begin = Starts(file.plan).begin
    driver = Driver(file, connections, begin=begin, objection=objection)
    sweep = AsyncSweep(driver, file.path)
    note_sweep(sweep, connections)
    return sweep


def _objection_of(head: Head) -> Objection:
    gpus = int(head.run.get("gpus", 0))
    return objection_to(head.where, slots=head.slots, gpus=gpus)


def _begin_again(file: PlanFile) -> None:
    """Have failed and skipped runs wait once more."""
    plan = file.plan
    if plan.halted is not None:
        file.note(Halted())
    for run in tuple(plan.begun()):
        if run.state in FINAL and run.state is not RunState.SUCCEEDED:
            file.note(Repeated(run.number))
