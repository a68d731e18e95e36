"""Files to and from several hosts at once: what is printed, and the exit status."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from mlepool.cli.bars import Bars, size
from mlepool.cli.choosing import Choice
from mlepool.cli.exits import FAILED, INTERRUPTED, UNKNOWN
from mlepool.cli.interrupts import Interrupts
from mlepool.cli.outputs import JsonLines
from mlepool.cli.printer import Printer
from mlepool.cli.reach import Reached, reach
from mlepool.cli.wording import complain, visible
from mlepool.client.connection import AsyncConnection
from mlepool.client.files.places import folder_of
from mlepool.client.listening.listener import AsyncListener, Status
from mlepool.errors import ClientError, MlepoolError, SyncHaltedError

__all__ = ["Begin", "Shown", "transfer"]

INTERVAL = 0.1  # seconds between two looks at the progress
STOP_LIMIT = 10.0  # seconds that hosts may take to let go of what they got

# Begins on one connection; gives its listener while it goes on. The text is the name of
# the folder for what comes from there: empty if it is the only one.
Begin = Callable[[AsyncConnection, str], Awaitable[AsyncListener]]


class Shown(NamedTuple):
    """What is printed of transfers.

    Attributes:
        changes: A line for each change.
        is_plan: True if nothing is changed: it is only asked for.
        as_json: An object for each host, and for each change that is printed.
    """

    changes: bool = False
    is_plan: bool = False
    as_json: bool = False


def transfer(choice: Choice, begin: Begin, shown: Shown) -> int:
    """Transfer to or from each host, all at once; give the exit status.

    Args:
        choice: Which hosts.
        begin: Begins on one of them.
        shown: What is printed.
    """
    try:
        return asyncio.run(_run(choice, begin, shown))
    except KeyboardInterrupt:  # nobody reads what we print
        return INTERRUPTED


async def _run(choice: Choice, begin: Begin, shown: Shown) -> int:
    with Interrupts() as interrupts:
        async with reach(choice) as reached:
            going = _Transfers(reached, begin, shown)
            status = await interrupts.unless_pressed(going.run())
            if status is None:
                await going.stop()
                return INTERRUPTED
    return max(status, UNKNOWN if reached.failed else 0)


class _Transfers:
    """A transfer for each host that was reached.

    Args:
        reached: The hosts.
        begin: Begins on one of them.
        shown: What is printed.
    """

    def __init__(self, reached: Reached, begin: Begin, shown: Shown) -> None:
        self._connections = reached.connections
        self._begin = begin
        self._are_listed = shown.changes or shown.is_plan
        self._shown = shown
        names = [one.name for one in reached.connections]
        self._are_many = len(names) + len(reached.failed) > 1
        prefixed = names if self._are_many else []
        self._printer = JsonLines() if shown.as_json else Printer(prefixed)
        self._begun: dict[str, AsyncListener] = {}
        self._complaints: list[tuple[str, str]] = []

    async def run(self) -> int:
        """Do all; the worst exit status."""
        with Bars(are_shown=not (self._are_listed or self._shown.as_json)) as bars:
            ticking = asyncio.ensure_future(self._tick(bars))
            try:
                runs = [self._run_on(one) for one in self._connections]
                statuses = await asyncio.gather(*runs)
                bars.show(self._begun)
            finally:
                ticking.cancel()
        self._complain()
        for name, listener in self._begun.items():
            if listener.value is not None:
                self._sum_up(name, listener.value)
        return max(statuses, default=0)

    async def stop(self) -> None:
        """Stop what has not ended, and say how it leaves the trees."""
        self._complain()
        failed = {name for name, _ in self._complaints}
        going = [one for name, one in self._begun.items() if name not in failed]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_LIMIT):
                await asyncio.gather(*(one.stop() for one in going))
        for name in (one.name for one in self._connections):
            if name not in failed:
                complain(f"{name}: {_ending(self._begun.get(name))}")

    def _sum_up(self, name: str, value: Any) -> None:
        if isinstance(self._printer, JsonLines):
            self._printer.done(name, value)
        else:
            is_plan = self._shown.is_plan
            self._printer.say(name, _summary(value, is_plan=is_plan))

    def _complain(self) -> None:
        """Say what failed; not before the end, as bars on a terminal would wrap it."""
        for name, text in self._complaints:
            self._printer.complain(name, text)

    async def _run_on(self, connection: AsyncConnection) -> int:
        name = connection.name
        try:
            folder = folder_of(connection.name) if self._are_many else ""
            listener = self._begun[name] = await self._begin(connection, folder)
            async for batch in listener.batches():
                if self._are_listed:
                    self._printer.say(name, *map(_line, batch))
            await listener.wait()
        except BrokenPipeError:  # nobody reads what we print
            raise
        except (MlepoolError, OSError, ValueError) as exc:
            self._complaints.append((name, _in_words(exc)))
            return UNKNOWN if isinstance(exc, ClientError) else FAILED
        if listener.error is not None:
            self._complaints.append((name, _in_words(listener.error)))
        return 0 if listener.ok else FAILED

    async def _tick(self, bars: Bars) -> None:
        while True:
            bars.show(self._begun)
            await asyncio.sleep(INTERVAL)


def _summary(value: Any, *, is_plan: bool = False) -> str:
    files = "1 file" if value.sent == 1 else f"{value.sent:,} files"
    rest = f"{value.skipped:,} unchanged"
    if is_plan:
        most = f"{size(value.bytes_total)} at most"
        return f"would send {files}, {most}, and delete {value.deleted:,}; {rest}"
    done = f"{files} sent, {rest}, {value.deleted:,} deleted"
    return f"{done}; {size(value.bytes_sent)} in {value.seconds:.2f} s"


def _ending(listener: AsyncListener | None) -> str:
    """Say how an interrupted transfer leaves what is there."""
    if listener is None or listener.status is Status.STOPPED:
        done = None if listener is None else listener.value
        return f"stopped; {_summary(done) if done else 'all is as it was'}"
    if listener.ok:
        return "all was done before"
    if listener.error is not None:
        return _in_words(listener.error)
    return f"no answer within {STOP_LIMIT:g} s; what was there may be replaced yet"


def _line(message: Any) -> str:
    return visible(str(message))


def _in_words(error: Exception) -> str:
    if isinstance(error, SyncHaltedError):
        return f"{error.cause}; nothing was changed, --force syncs nevertheless"
    is_ours = isinstance(error, MlepoolError)
    if not is_ours and isinstance(error, OSError) and error.filename:
        return visible(f"{error.strerror}: {error.filename!r}")
    return visible(str(error))
