"""Starts the runs of a plan: what each is called with."""

from __future__ import annotations

from typing import Any

from mlepool.client.connection import AsyncConnection
from mlepool.client.listening.listener import AsyncListener
from mlepool.client.sweeps.plan import Plan
from mlepool.client.sweeps.template import Filling, Pattern

__all__ = ["Starts"]

MEMORY = 1024 * 1024  # bytes of a run's output that are held here while it runs


class Starts:
    """Starts the runs of a plan, each with its own parameters.

    Args:
        plan: The plan.
    """

    def __init__(self, plan: Plan) -> None:
        head = plan.head
        self._plan = plan
        self._filling = Filling(head.run)
        self._to = Pattern(head.collect_to)

    def begin(
        self, connection: AsyncConnection, number: int, age: float
    ) -> AsyncListener:
        """Start a run's present attempt on a worker, or join it."""
        plan = self._plan
        values = plan.values(number)
        listener = connection.begin_planned(
            (plan.template.fill(values),),
            self._keywords(values, connection.name),
            job_id=plan.job_id(number, plan.run(number).attempt),
            limit=plan.head.limit,
            age=age,
        )
        listener.points  # noqa: B018 - from now on they are looked for
        return listener

    def _keywords(self, values: dict[str, Any], host: str) -> dict[str, Any]:
        # The plan knows what runs, so nothing ends with a connection.
        keywords = {"detach": True, "memory": MEMORY, **self._filling.fill(values)}
        if self._to.text:
            keywords["collect_to"] = self._to.fill(values)
        digest = self._plan.synced.get(host)
        if digest:
            keywords["tree"] = digest
        return keywords
