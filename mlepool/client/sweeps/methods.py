"""Verbs of a pool or group that put runs on whichever of its workers has a slot."""

from __future__ import annotations

import importlib
import os
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from mlepool.client.connection import AsyncConnection

if TYPE_CHECKING:
    from mlepool.client.listening.listener import AsyncListener
    from mlepool.client.sweeps.sweep import AsyncSweep

__all__ = ["SweepMethods", "leave_sweeps", "note_sweep"]

# Who runs no sweep need not load what they are made of.
_BEGINNING = "mlepool.client.sweeps.beginning"


class Driven(Protocol):
    """What gives runs to hosts: a sweep, or a line of submitted runs."""

    async def close(self) -> None:
        """Begin nothing more."""


# What uses a connection, while there is any.
_open: weakref.WeakKeyDictionary[AsyncConnection, weakref.WeakSet[Driven]]
_open = weakref.WeakKeyDictionary()


def note_sweep(sweep: Driven, connections: Iterable[AsyncConnection]) -> None:
    """Note which connections a sweep uses: it is to be left before they close."""
    for connection in connections:
        _open.setdefault(connection, weakref.WeakSet()).add(sweep)


async def leave_sweeps(connections: Iterable[AsyncConnection]) -> None:
    """Leave the sweeps that use connections which are about to be closed."""
    found = {one for connection in connections for one in _open.get(connection, ())}
    for sweep in found:
        await sweep.close()


class SweepMethods:
    """What a pool or a group can do with many runs."""

    def __iter__(self) -> Iterator[AsyncConnection]:
        raise NotImplementedError

    async def map(
        self,
        command: str | Sequence[Any],
        *,
        axes: Mapping[str, Any] | None = None,
        rows: Iterable[Mapping[str, Any]] | None = None,
        plan: str | os.PathLike[str] | None = None,
        **keywords: Any,
    ) -> AsyncSweep:
        """Run a command once for each combination of parameters, on free slots.

        ::

            await pool.map("python train.py --lr {lr} --seed {seed}",
                           lr=[0.1, 0.01], seed=range(3), gpus=1)

        Args:
            command: With fields, as of ``str.format``. Of a str each value is quoted
                for the shell; of a list each word is filled, and meets no shell.
                ``{run}`` is the run's number. A brace that is meant is doubled.
            axes: Further parameters: with names that are options' as well, or that no
                field has; each value is another run all the same.
            rows: Combinations that are given one by one, as dicts or a pandas table.
            plan: Where the plan is kept; by default in this account's folder, under
                the sweep's id. It must not exist yet, but its folder must.
            keywords: Parameters, each a field with its values: all combinations are
                run, the last one turns fastest. And these options: ``cwd``, ``env``,
                ``collect`` and ``collect_to`` (with fields, too), ``gpus``,
                ``priority``, ``orphan_timeout`` and ``timeout`` (seconds) as of
                ``run``; ``sync``, once for each host; ``where``, a selector;
                ``slots`` at once on each host, or by host, by default what it offers;
                ``retries`` of failed runs (0); ``retries_lost`` of those that are
                proven to be lost (1); ``lost_timeout``, seconds that a host may be
                away until others do its runs (never); ``max_failures``, a number or
                ``"20%"``; ``fail_fast``.

        Returns:
            The sweep, which is under way; its end is not waited for.

        Raises:
            TypeError: For a keyword that is no option, nor a field.
            ValueError: For a field without values, or one that can't be quoted where
                it stands; for an option that can't be, and slots of a host that is not
                there; or if no host can ever take a run.
            SweepPlanError: If the plan can't be written, or there is one already.
        """
        beginning = importlib.import_module(_BEGINNING)
        begin = beginning.begin_sweep(
            *(tuple(self), command, keywords), axes=axes, rows=rows, plan=plan
        )
        return await begin  # type: ignore[no-any-return]

    async def submit(
        self,
        command: str | Sequence[Any],
        *,
        where: str = "",
        slots: int | dict[str, int] | None = None,
        **keywords: Any,
    ) -> AsyncListener:
        """Run a command on the first host that has a free slot.

        Runs wait for their slots here, in the order in which they were submitted, and
        go away with this process: what is to outlive it is a sweep (:meth:`map`).
        Each is begun once at most, and not repeated elsewhere.

        Args:
            command: As of ``run``: without fields.
            where: A selector: which hosts may do it.
            slots: How many at once on each host, or by host; by default what it offers
                (``max_concurrent``, GPUs), else 1. Runs that were submitted with the
                same ``where``, ``slots`` and ``gpus`` share these.
            keywords: As of ``run``, but for ``complete``, ``echo_response`` and
                ``sync``.

        Returns:
            Its listener: PENDING until it has begun; ``stop()`` ends it in any case.

        Raises:
            TypeError: For a keyword that makes no sense here.
            ValueError: If the selector is none, or no host can ever take the run.
        """
        beginning = importlib.import_module(_BEGINNING)
        return beginning.submit(  # type: ignore[no-any-return]
            *(tuple(self), command, keywords), where=where, slots=slots
        )

    async def resume(
        self, plan: str | os.PathLike[str], *, failed: bool = False
    ) -> AsyncSweep:
        """Go on with a sweep, of this process or another one that is no more.

        What runs is attached to, what has ended meanwhile is collected, the rest is
        begun. Nothing is run twice.

        Args:
            plan: The plan's file: :attr:`AsyncSweep.plan`.
            failed: True to repeat the runs that have not ended well, and to begin
                those that were skipped.

        Raises:
            SweepPlanError: If there is no such plan, it is damaged, or it is being
                driven: by another process, or by a sweep of this one that is not
                closed.
            ValueError: If there is no host.
        """
        beginning = importlib.import_module(_BEGINNING)
        resume = beginning.resume_sweep(tuple(self), plan, failed=failed)
        return await resume  # type: ignore[no-any-return]
