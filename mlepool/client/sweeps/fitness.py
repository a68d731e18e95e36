"""Which hosts may do the runs of a sweep, and what is in the way of the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from mlepool.client.connection import AsyncConnection
from mlepool.client.inventory.brackets import fold
from mlepool.client.inventory.faults import nearest
from mlepool.client.inventory.selectors import Selector

__all__ = ["Objection", "check_hosts", "in_short", "objection_to"]

SHOWN_REASONS = 3

# Why a host may do no run, as it stands now; empty if it may.
Objection = Callable[[AsyncConnection], str]


def objection_to(
    where: str, *, slots: int | dict[str, int] | None, gpus: int
) -> Objection:
    """Give what tells why a host may do no run.

    Args:
        where: A selector; empty for any host.
        slots: How many at once on each host, or by host.
        gpus: How many each run needs.

    Raises:
        ConfigError: If the selector is none.
    """
    selector = Selector.parse(where) if where else None
    by_host = slots if isinstance(slots, dict) else {}

    def objection(connection: AsyncConnection) -> str:
        state = connection.state
        if by_host.get(connection.name) == 0:
            return "it is to have no slots"
        if selector is not None and not selector.matches(connection.labels, state):
            return f"it does not fit {where!r}"
        has = len(state.get("gpu") or ())
        return f"it has {has} GPUs, and a run takes {gpus}" if gpus > has else ""

    return objection


def check_hosts(
    connections: Sequence[AsyncConnection],
    *,
    where: str,
    slots: int | dict[str, int] | None,
    objection: Objection,
) -> None:
    """See that something may run, as far as is known before all are asked.

    Raises:
        ValueError: If no host can ever take a run; for slots of a host that is not
            there.
    """
    by_host = slots if isinstance(slots, dict) else {}
    names = [one.name for one in connections]
    for name in by_host:
        if name not in names:
            raise ValueError(
                f"slots: there is no host {name!r}; {nearest(name, names)}"
            )
    if isinstance(slots, int) and slots < 1:
        raise ValueError(f"slots must be 1 or more, not {slots}")
    selector = Selector.parse(where) if where else None
    refused = {}
    for one in connections:
        # What a worker finds out about its host comes a moment after it has started.
        is_known = one.is_connected and "gpu" in one.state
        if by_host.get(one.name) == 0 or is_known:
            refused[one.name] = objection(one)
        elif selector is not None and selector.excludes(one.labels):
            refused[one.name] = f"its labels do not fit {where!r}"
    if len(refused) == len(names) and all(refused.values()):
        raise ValueError(f"no host can ever take a run: {in_short(refused)}")


def in_short(reasons: Mapping[str, str]) -> str:
    """Say what is in the way of hosts: those of whom the same is true together."""
    alike: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        alike.setdefault(reason, []).append(name)
    said = [f"{fold(names)}: {reason}" for reason, names in alike.items()]
    more = len(said) - SHOWN_REASONS
    rest = [f"and {more} more"] if more > 0 else []
    return "; ".join([*said[:SHOWN_REASONS], *rest])
