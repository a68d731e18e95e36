"""AsyncGroupListener: the handle of one call on many hosts."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self

from mlepool.client.groups.changes import Changes
from mlepool.client.groups.facts import GroupFacts
from mlepool.client.groups.merge import Merge, Merged
from mlepool.client.groups.run import GroupRun
from mlepool.client.groups.slots import Slot
from mlepool.client.groups.views import SameOutputs, diff_of, grouped_of, table_of
from mlepool.client.listening.listener import AsyncListener
from mlepool.client.options import CallOptions
from mlepool.client.tables import Table
from mlepool.errors import ListenerTimeoutError
from mlepool.signals import signal_name

__all__ = ["AsyncGroupListener", "decoded"]


class AsyncGroupListener(GroupFacts, Mapping[str, AsyncListener]):
    """One call on many hosts: a mapping from each host's name to its listener.

    All hosts are there from the start, PENDING where it has not begun. A host that
    can't be reached is LOST, and its ``error`` says why; one that is left out since too
    many had failed is FAILED, and its ``error`` a :class:`~mlepool.SkippedError`.

    ``async for`` and :meth:`next` give ``(name, message)`` as they come; each ``for``
    starts at the first message, ``next()`` has a place of its own. A host that prints
    much keeps no other waiting. Of hosts that were tried again all attempts' messages
    are given; the mapping has the latest attempt, :attr:`attempts` those before.

    Output is held up to a bound, shared by the hosts (``memory=`` sets it for each);
    what has left memory is read again from the worker.
    """

    def __init__(self, run: GroupRun) -> None:
        super().__init__(run)
        self._merge: Merge | None = None
        self._waiting: Iterator[tuple[str, Any]] = iter(())
        self._decoders: dict[AsyncListener, Any] = {}
        self._changes: Changes | None = None

    def __getitem__(self, name: str) -> AsyncListener:
        return self._run.slots[name].listener

    def __iter__(self) -> Iterator[str]:
        return iter(self._run.slots)

    def __len__(self) -> int:
        return len(self._run.slots)

    def __bool__(self) -> bool:
        return True  # a handle: also of a call on no host

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other

    __repr__ = GroupFacts.__repr__

    @property
    def attempts(self) -> dict[str, list[AsyncListener]]:
        """The attempts of each host that had begun, the latest one last."""
        return {
            name: [*slot.attempts, *([slot.listener] if _has_begun(slot) else ())]
            for name, slot in self._run.slots.items()
        }

    # -- messages

    def __aiter__(self) -> AsyncIterator[tuple[str, Any]]:
        return self._iterate()

    async def next(self) -> tuple[str, Any] | None:
        """Wait for the next message of any host; None once all have ended.

        Raises:
            ListenerTimeoutError: If no host has said anything for ``max_interval``.
            TypeError, AttributeError, ValueError: If the call fits no host's command.
        """
        self._merge = self._merge or Merge(self._run)
        while True:
            for found in self._waiting:
                return found
            merged = await self._next_merged(self._merge)
            if merged is None:
                self.check_fit()
                return None
            self._waiting = decoded(merged, self._decoders)

    async def _iterate(self) -> AsyncIterator[tuple[str, Any]]:
        merge, decoders = Merge(self._run), dict[AsyncListener, Any]()
        try:
            while (merged := await self._next_merged(merge)) is not None:
                for found in decoded(merged, decoders):
                    yield found
        finally:
            merge.close()
        self.check_fit()

    # -- the end

    async def wait(self) -> Self:
        """Wait until each host has its outcome, whether messages are read or not.

        What has failed is not raised; :meth:`check` does that.

        Raises:
            TypeError, AttributeError, ValueError: If the call fits no host's command.
        """
        await self._run.wait()
        self.check_fit()
        return self

    async def check(self) -> Self:
        """Wait for the end, and raise what failed, if something did.

        Raises:
            ExceptionGroup: Of an error for each host that has not succeeded, with a
                note that names the host.
        """
        await self.wait()
        errors = self.errors()
        if errors:
            text = f"{self.command!r} failed on {len(errors)} of {len(self)} hosts"
            raise ExceptionGroup(text, list(errors.values()))
        return self

    async def stop(
        self, signal: str | int = "SIGINT", *, grace: float = 10.0
    ) -> dict[str, Any]:
        """Stop it on all hosts, side by side; where it waits to begin, it never will.

        Args:
            signal: The first signal, by its name (``"SIGTERM"``, ``"TERM"``) or as
                ``signal.SIGTERM``; SIGTERM and SIGKILL follow.
            grace: Seconds between two of them.

        Returns:
            By name, a :class:`~mlepool.StopReport` of each host where it ran; an
            exception for one where it could not be stopped.
        """
        return await self._run.stop(signal_name(signal), grace=grace)

    def close(self) -> None:
        """Stop listening; jobs go on, and where it waits to begin it never will."""
        self._run.abandon("its listener was closed")
        if self._merge is not None:
            self._merge.close()
        for listener in self.values():
            if not listener.is_to_come:
                listener.close()

    # -- views

    def table(self) -> Table:
        """Give a row for each host: status, exit status, seconds, the last line."""
        return table_of(self._run.slots.values())

    def grouped(self) -> SameOutputs:
        """Put hosts with the same output together, the most hosts first.

        It may be asked for at any time; hosts that have said nothing yet are left out.

        Returns:
            ``(hosts, names, output)`` of each: the names as one text (``gpu[1-3]``),
            and as a list. ``print()`` shows all as ``clush -b`` does, notebooks too.
        """
        return grouped_of(self._run.slots.values())

    def diff(self) -> str:
        """Compare each output with that of the most hosts, as a unified diff.

        Hosts that it could not run on are left out.
        """
        return diff_of(self._run.slots.values())

    def on(self, event: str, callback: Callable[..., object]) -> None:
        """Have a function called when something changes: for live views.

        Args:
            event: ``"change"``: a host has begun, said something, or ended. At most ten
                times a second, and once after the last change.
            callback: Called with this listener. What it raises is logged.

        Raises:
            ValueError: If there is no such event.
        """
        if event != "change":
            raise ValueError(f"there is no event {event!r}; there is: change")
        if not callable(callback):
            raise TypeError(f"a callback is a function, not {type(callback).__name__}")
        self._changes = self._changes or Changes(self._run)
        self._changes.callbacks.append(lambda: callback(self))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # -- within

    def errors(self) -> dict[str, Exception]:
        """Give what failed so far, by host."""
        found = {}
        for name, slot in self._run.slots.items():
            error = slot.listener.left_error() or slot.listener.error
            if error is not None:
                note = f"on {name}"
                if note not in getattr(error, "__notes__", ()):
                    error.add_note(note)
                found[name] = error
        return found

    @property
    def run(self) -> GroupRun:
        """What drives it."""
        return self._run

    @property
    def options(self) -> CallOptions:
        """What the caller asked for."""
        return self._run.order.options

    def abandon(self, cause: str) -> None:
        """Begin it on no more hosts; what runs goes on."""
        self._run.abandon(cause)

    def release(self) -> dict[str, str]:
        """Own no job of it any more; gives the ids of those that go on, by host."""
        return self._run.release()

    async def _next_merged(self, merge: Merge) -> Merged | None:
        limit = self.options.max_interval
        try:
            async with asyncio.timeout(limit):
                return await merge.next()
        except TimeoutError:
            raise self.silence_error(limit) from None

    def silence_error(self, seconds: float | None) -> ListenerTimeoutError:
        """Say that no host has said anything for so long."""
        hosts = f"{len(self)} hosts"
        return ListenerTimeoutError(hosts, self.command, seconds=seconds or 0.0)

    def check_fit(self) -> None:
        """Raise why the call fits no host's command, if it fits none's."""
        if self._run.mistake is not None:
            raise self._run.mistake


def decoded(
    merged: Any, decoders: dict[AsyncListener, Any]
) -> Iterator[tuple[str, Any]]:
    """Give the messages of what has come from one host.

    Args:
        merged: What has come.
        decoders: What is kept for each listener from one time to the next.
    """
    name, listener, records = merged
    if records is not None:
        decoder = decoders.get(listener)
        if decoder is None:
            decoder = decoders[listener] = listener.new_decoder()
        messages = decoder.decode(records)
    else:
        messages = (decoders.pop(listener, None) or listener.new_decoder()).finish()
    return zip(itertools.repeat(name), messages, strict=False)


def _has_begun(slot: Slot) -> bool:
    return not slot.listener.is_to_come
