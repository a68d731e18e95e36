"""What goes with a run: its tree gets there before it, its results come back after."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from mlepool.client.calls import Calls, text_of
from mlepool.client.catalogue.commands import BoundCommand
from mlepool.client.files.places import place_for
from mlepool.client.files.verbs import begin_collecting, local_path
from mlepool.client.ids import new_job_id
from mlepool.client.listening.jobless import Unbegun, fail_unbegun
from mlepool.client.listening.listener import AsyncListener
from mlepool.client.options import CallOptions
from mlepool.client.owned import Echo
from mlepool.wire.messages import Outcome

__all__ = ["attach_and_collect", "bring_back", "run_with_files"]

logger = logging.getLogger("mlepool.client")

Sync = Callable[..., Coroutine[Any, Any, AsyncListener]]


async def run_with_files(
    calls: Calls,
    sync: Sync,
    command: BoundCommand,
    *,
    args: tuple[Any, ...],
    keywords: dict[str, Any],
    job_id: str | None,
    echo: Echo,
    listener: AsyncListener | None = None,
    is_one_of_many: bool = False,
) -> AsyncListener:
    """Sync a tree, run a command in it, and bring back what it leaves.

    Args:
        calls: The connection's calls.
        sync: Its own ``sync``.
        command: What to call.
        args: Its positional arguments.
        keywords: The others; ``sync``, ``collect`` or ``collect_to`` among them.
        job_id: The id to use; a new one by default.
        echo: What prints a message, for ``echo_response``.
        listener: Its handle, if that was made before, with the id.
        is_one_of_many: True if what comes back is to get a folder of the host's name.

    Raises:
        TypeError: For arguments that don't fit the command, or ``sync``.
        SyncHaltedError, SyncIncompleteError, OSError: With ``raise_error``, and where
            the handle was made before: the sync failed, and nothing was run. Else it is
            the ``error`` of a listener that has FAILED.
    """
    options, arguments = command.bind(args, keywords)  # what is wrong is said first
    patterns = arguments.get("collect")
    if options.collect_to is not None and not patterns:
        raise TypeError("collect_to has no use without collect")
    here, place = Path(), arguments.get("cwd")
    job_id = job_id or new_job_id()
    if options.sync is not None:
        order = _order(options.sync, place)
        is_raised = options.raise_error or listener is not None
        with calls.preparing(job_id):
            done = await sync(**order, raise_error=is_raised)
        if done.error is not None:
            text = text_of(command, arguments)
            failed = _failed(calls, done.error, options, job_id=job_id, text=text)
            return await failed.wait() if options.complete else failed
        here, place = local_path(order["source"]), order["destination"]
        keywords = {**keywords, "cwd": os.fspath(place), "tree": done.value.digest}
    listener = calls.start(command, args, keywords, job_id=job_id, listener=listener)
    if patterns:
        to = options.collect_to or here
        to = place_for(calls.name, to) if is_one_of_many else to
        bring_back(calls, listener, place, to=to, what=patterns)
    return await calls.follow(listener, echo)


def _failed(
    calls: Calls, problem: Exception, options: CallOptions, *, job_id: str, text: str
) -> AsyncListener:
    """Make the handle of a run that does not begin, and has ended."""
    stop = functools.partial(calls.stop_job, job_id, "SIGINT", grace=0)
    owner = Unbegun(calls.name, f"job {job_id}", stop)
    listener = AsyncListener(job_id, text, options, owner=owner)
    fail_unbegun(listener, problem)
    return listener


async def attach_and_collect(
    calls: Calls, job_id: str, *, offset: int, keywords: dict[str, Any]
) -> AsyncListener:
    """Attach to a job, and bring back what was to be collected once it ends.

    Raises:
        LookupError: If there is no such job.
        ValueError: If it was started without ``collect``.
    """
    info = (await calls.describe(job_id)).value
    if not info.files.collect:
        raise ValueError(f"job {job_id} has nothing to collect: it was run without it")
    there, to = os.fsencode(info.cwd), keywords["collect_to"]

    def prepare(listener: AsyncListener) -> None:
        _Results(calls, listener, there, to=to, what=info.files.collect)

    return await calls.attach(job_id, offset, keywords, prepare=prepare)


def bring_back(
    calls: Calls, listener: AsyncListener, cwd: str | None, *, to: Any, what: Any
) -> None:
    """Have what a job leaves in its folder brought here before its end is told.

    Args:
        calls: The connection's calls.
        listener: The job's.
        cwd: The job's folder, if it has one of its own.
        to: Where to, here; the current folder by default.
        what: Patterns that name it.
    """
    there = calls.place(os.fsencode(cwd or "."))
    _Results(calls, listener, there, to=to or Path(), what=what)


class _Results:
    """What is to be brought back before a listener comes to its end.

    Args:
        calls: The connection's calls.
        listener: The job's.
        there: Where the results are.
        to: Where they are to be.
        what: Patterns that name them.
    """

    def __init__(
        self, calls: Calls, listener: AsyncListener, there: bytes, *, to: Any, what: Any
    ) -> None:
        self._calls = calls
        self._listener = listener
        self._there = there
        self._to = local_path(to)
        self._what = (what,) if isinstance(what, str) else tuple(what)
        self._task: asyncio.Task[None] | None = None
        listener.intake.errand = self._begin

    def _begin(self, outcome: Outcome, end: Callable[[Outcome], None]) -> None:
        if outcome.status == "LOST":
            end(outcome)
        else:
            self._task = asyncio.ensure_future(self._bring(outcome, end))

    async def _bring(self, outcome: Outcome, end: Callable[[Outcome], None]) -> None:
        try:
            job = begin_collecting(
                self._calls,
                self._there,
                self._to,
                include=self._what,
                options=CallOptions(raise_error=True),
            )
            self._listener.collected = (await self._calls.work(job)).value
        except Exception as exc:
            # The top of a task. The job has run: its listener tells of this besides.
            name, job_id = self._calls.name, self._listener.id
            logger.warning("%s: job %s: not collected: %s", name, job_id, exc)
            if outcome.status == "SUCCEEDED":
                self._listener.failure = exc
        finally:
            end(outcome)


def _order(sync: Any, cwd: Any) -> dict[str, Any]:
    """Read what ``run(sync=)`` was given: arguments of ``sync``.

    Raises:
        TypeError: If it is none of what it can be.
    """
    if isinstance(sync, Mapping):
        order = dict(sync)
    elif isinstance(sync, tuple) and len(sync) == 2:
        order = dict(zip(("source", "destination"), sync, strict=True))
    else:
        order = {"source": sync}
    if not isinstance(order.get("source"), str | os.PathLike):
        raise TypeError(
            "run(): sync: give a folder, (source, destination), or the arguments of "
            f"sync() as a dict, not {sync!r:.80}"
        )
    order.setdefault("destination", cwd or local_path(order["source"]).name or ".")
    wrong = {"pull", "dry_run", "watch", "complete", "raise_error"} & order.keys()
    if wrong:
        raise TypeError(f"run(): sync: {wrong.pop()} has no sense before a run")
    return order
