"""GroupListener: the blocking handle of one call on many hosts."""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from mlepool.client.groups.facts import GroupFacts
from mlepool.client.groups.listener import AsyncGroupListener, decoded
from mlepool.client.groups.views import SameOutputs
from mlepool.client.listening.listener import AsyncListener
from mlepool.client.portal import Portal
from mlepool.client.sync.group_pump import GroupPump
from mlepool.client.sync.listener import Listener
from mlepool.client.sync.pages import group_page
from mlepool.client.sync.views import Viewed
from mlepool.client.tables import Table

__all__ = ["GroupListener"]

logger = logging.getLogger("mlepool.client")

MAX_NAMED = 20  # jobs that a warning names
COUNTED = ("succeeded", "failed", "lost", "skipped", "running", "waiting")


class GroupListener(GroupFacts, Viewed):
    """One call on many hosts; as :class:`~mlepool.AsyncGroupListener`, but blocking.

    A mapping from each host's name to its :class:`~mlepool.Listener` (``[name]``,
    ``keys``, ``values``, ``items``, ``get``, ``in``, ``len``); iterated, it gives
    ``(name, message)`` as they come, from the first on.

    The first Ctrl-C while something here waits leaves the jobs running, and says their
    ids; where it waits to begin, it never will.
    """

    def __init__(self, listener: AsyncGroupListener, portal: Portal) -> None:
        super().__init__(listener.run)
        self._async = listener
        self._portal = portal
        self._pump: GroupPump | None = None
        self._has_ended = False
        self._waiting: Iterator[tuple[str, Any]] = iter(())
        self._decoders: dict[AsyncListener, Any] = {}
        self._listeners: dict[AsyncListener, Listener] = {}
        for name in self.names:
            self[name]  # before it begins: silence is measured where it is waited for

    # -- a mapping

    def __getitem__(self, name: str) -> Listener:
        return self._face(self._async[name])

    def __len__(self) -> int:
        return len(self._async)

    def __bool__(self) -> bool:
        return True

    def __contains__(self, name: object) -> bool:
        return name in self._async

    def keys(self) -> list[str]:
        """Give the hosts' names."""
        return self.names

    def values(self) -> list[Listener]:
        """Give the hosts' listeners."""
        return [self[name] for name in self.names]

    def items(self) -> list[tuple[str, Listener]]:
        """Give both."""
        return [(name, self[name]) for name in self.names]

    def get(self, key: str, default: Any = None) -> Any:
        """Give the listener of a host, or something else if there is none."""
        if key not in self:
            return default
        return self[key]

    @property
    def attempts(self) -> dict[str, list[Listener]]:
        """The attempts of each host that had begun, the latest one last."""
        found = self._portal.do(lambda: self._async.attempts)
        return {name: [self._face(one) for one in all_] for name, all_ in found.items()}

    # -- messages

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        pump = GroupPump(self._async.run, self._portal)
        decoders: dict[AsyncListener, Any] = {}
        try:
            while (batch := self._take(pump)) is not None:
                for merged in batch:
                    yield from decoded(merged, decoders)
        finally:
            pump.stop()
        self._async.check_fit()

    def next(self) -> tuple[str, Any] | None:
        """Wait for the next message of any host; None once all have ended.

        Raises:
            ListenerTimeoutError: If no host has said anything for ``max_interval``.
            TypeError, AttributeError, ValueError: If the call fits no host's command.
        """
        self._pump = self._pump or GroupPump(self._async.run, self._portal)
        while not self._has_ended:
            for found in self._waiting:
                return found
            batch = self._take(self._pump)
            if batch is None:
                self._has_ended = True
                self._async.check_fit()
                return None
            self._waiting = (
                found for merged in batch for found in decoded(merged, self._decoders)
            )
        return None

    # -- the end

    def wait(self, timeout: float | None = None) -> Self:
        """Wait until each host has its outcome, whether messages are read or not.

        What has failed is not raised; :meth:`check` does that.

        Args:
            timeout: Seconds to wait; the jobs go on after them.

        Raises:
            TimeoutError: If not all have ended by then.
            TypeError, AttributeError, ValueError: If the call fits no host's command.
        """
        with self._on_interrupt():
            self._portal.call(self._async.wait(), self._limit(timeout))
        return self

    def check(self, timeout: float | None = None) -> Self:
        """Wait for the end, and raise what failed, if something did.

        Args:
            timeout: Seconds to wait; the jobs go on after them.

        Raises:
            TimeoutError: If not all have ended by then.
            ExceptionGroup: Of an error for each host that has not succeeded, with a
                note that names the host.
        """
        with self._on_interrupt():
            try:
                self._portal.call(self._async.check(), self._limit(timeout))
            except ExceptionGroup as group:
                for one in group.exceptions:
                    self._own(one)
                raise
        return self

    def stop(self, signal: str | int = "SIGINT", grace: float = 10.0) -> dict[str, Any]:
        """Stop it on all hosts, side by side; where it waits to begin, it never will.

        Args:
            signal: The first signal, by its name (``"SIGTERM"``, ``"TERM"``) or as
                ``signal.SIGTERM``; SIGTERM and SIGKILL follow.
            grace: Seconds between two of them.

        Returns:
            By name, a :class:`~mlepool.StopReport` of each host where it ran; an
            exception for one where it could not be stopped.
        """
        return self._portal.call(self._async.stop(signal, grace=grace))

    def close(self) -> None:
        """Stop listening; jobs go on, and where it waits to begin it never will."""
        if self._pump is not None:
            self._pump.stop()
        self._portal.do(self._async.close)

    # -- views

    def table(self) -> Table:
        """Give a row for each host: status, exit status, seconds, the last line."""
        return self._portal.do(self._async.table)

    def grouped(self) -> SameOutputs:
        """Put hosts with the same output together, the most hosts first.

        It may be asked for at any time; hosts that have said nothing yet are left out.

        Returns:
            ``(hosts, names, output)`` of each: the names as one text (``gpu[1-3]``),
            and as a list. ``print()`` shows all as ``clush -b`` does, notebooks too.
        """
        return self._portal.do(self._async.grouped)

    def diff(self) -> str:
        """Compare each output with that of the most hosts, as a unified diff.

        Hosts that it could not run on are left out.
        """
        return self._portal.do(self._async.diff)

    def on(self, event: str, callback: Callable[..., object]) -> None:
        """Have a function called when something changes, in mlepool's own thread.

        Args:
            event: ``"change"``: a host has begun, said something, or ended. At most ten
                times a second, and once after the last change.
            callback: Called with this listener. It may look at it (``table()``,
                ``grouped()``, ``diff()``); it must not wait for anything.

        Raises:
            ValueError: If there is no such event.
        """
        self._portal.do(lambda: self._async.on(event, lambda _: callback(self)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _repr_html_(self) -> str:
        slots = self._async.run.slots
        return self._portal.do(
            lambda: group_page(
                slots.values(),
                self.command,
                counts={word: len(getattr(self, word)) for word in COUNTED},
            )
        )

    def _is_live(self) -> bool:
        return not self.done

    # -- within

    def _take(self, pump: GroupPump) -> Any:
        limit = self._async.options.max_interval
        try:
            with self._on_interrupt():
                return pump.take(limit)
        except queue.Empty:
            raise self._async.silence_error(limit) from None

    def _limit(self, timeout: float | None) -> float | None:
        """Bound a wait; that for an end that has come is none, whatever is given."""
        return None if self.done else timeout

    def _face(self, listener: AsyncListener) -> Listener:
        found = self._listeners.get(listener)
        if found is None:
            found = self._listeners[listener] = Listener(listener, self._portal)
        return found

    def _own(self, error: Any) -> None:
        """Have an error carry a Listener of this face."""
        if isinstance(getattr(error, "listener", None), AsyncListener):
            error.listener = self._face(error.listener)

    @contextmanager
    def _on_interrupt(self) -> Iterator[None]:
        """On Ctrl-C begin nothing more, disown the jobs that run, and say so."""
        try:
            yield
        except KeyboardInterrupt:
            self.leave_alone()
            raise

    def leave_alone(self) -> None:
        """Disown the jobs that run, and say which they are; begin nothing more."""
        self._portal.do(lambda: self._async.abandon("Ctrl-C was pressed"))
        jobs = list(self._portal.do(self._async.release).items())
        if jobs:
            named = ", ".join(f"{name} {job_id}" for name, job_id in jobs[:MAX_NAMED])
            more = len(jobs) - MAX_NAMED
            rest = f", and {more} more" if more > 0 else ""
            count = "1 job goes" if len(jobs) == 1 else f"{len(jobs)} jobs go"
            text = "%s on: %s%s; attach(id) follows one, stop(id) ends it"
            logger.warning(text, count, named, rest)
