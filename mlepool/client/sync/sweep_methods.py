"""Verbs of a blocking pool or group that put runs on whichever worker has a slot."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlepool.client.catalogue.signatures import like
from mlepool.client.portal import Portal
from mlepool.client.sweeps.methods import SweepMethods as AsyncSweepMethods
from mlepool.client.sync.listener import Listener

if TYPE_CHECKING:
    from mlepool.client.sync.sweeps import Sweep

__all__ = ["SweepMethods"]

# Who runs no sweep need not load what they are made of.
_SWEEPS = "mlepool.client.sync.sweeps"


class SweepMethods:
    """What a pool or a group can do with many runs; each method blocks."""

    _async: Any
    _portal: Portal

    @like(AsyncSweepMethods.map)
    def map(
        self,
        command: str | Sequence[Any],
        *,
        axes: Mapping[str, Any] | None = None,
        rows: Iterable[Mapping[str, Any]] | None = None,
        plan: str | os.PathLike[str] | None = None,
        **keywords: Any,
    ) -> Sweep:
        """Run a command once for each combination of parameters, on free slots."""
        found = self._async.map(command, axes=axes, rows=rows, plan=plan, **keywords)
        return self._sweep(found)

    @like(AsyncSweepMethods.submit)
    def submit(
        self,
        command: str | Sequence[Any],
        *,
        where: str = "",
        slots: int | dict[str, int] | None = None,
        **keywords: Any,
    ) -> Listener:
        """Run a command on the first host that has a free slot."""
        work = self._async.submit(command, where=where, slots=slots, **keywords)
        return Listener(self._portal.call(work), self._portal)

    @like(AsyncSweepMethods.resume)
    def resume(self, plan: str | os.PathLike[str], *, failed: bool = False) -> Sweep:
        """Go on with a sweep, of this process or another one that is no more."""
        return self._sweep(self._async.resume(plan, failed=failed))

    def _sweep(self, work: Any) -> Sweep:
        sweeps = importlib.import_module(_SWEEPS)
        found = self._portal.call(work)
        return sweeps.Sweep(found, self._portal)  # type: ignore[no-any-return]
