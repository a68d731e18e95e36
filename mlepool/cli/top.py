"""``mlepool top``: what hosts are doing, live."""

import asyncio
import contextlib
import importlib
import json
import math
import os
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from mlepool.cli.choosing import Choice, Hosts, Labels
from mlepool.cli.exits import INTERRUPTED, UNKNOWN
from mlepool.cli.gauges import HEADERS, Gauge, summary
from mlepool.cli.interrupts import Interrupts
from mlepool.cli.reach import MAX_DIALS, leave, open_chosen
from mlepool.cli.wording import visible
from mlepool.client.connection import AsyncConnection
from mlepool.client.tables import Table
from mlepool.errors import MlepoolError
from mlepool.wire.telemetry import Sample

__all__ = ["top"]

ANSWER_LIMIT = 5.0  # seconds that a worker has to answer
LOST = "the link is lost; it is dialled again"
REFRESHES = 2  # of the screen, a second
RIGHT = ("jobs", "cpu", "load", "disk", "rtt")  # columns of numbers
QUIT_KEYS = b"qQ\x03\x04"


def top(
    hosts: Hosts = None,
    *,
    selector: Labels = "",
    once: Annotated[
        bool, typer.Option("--once", help="Print one table and end.")
    ] = False,
    interval: Annotated[
        float, typer.Option(help="Seconds between two looks at each host.")
    ] = 2.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="An object for each host and look.")
    ] = False,
) -> None:
    """Show what hosts are doing: CPU, memory, GPUs, jobs.

    All that this account knows, if none is named. On a terminal the table is live, and
    q ends it; else it is printed once.

    With --once it exits with 255 if a host can't be reached.
    """
    if not 0.1 <= interval < math.inf:
        raise typer.BadParameter("give 0.1 seconds or more", param_hint="--interval")
    is_live = not once and (as_json or sys.stdout.isatty())
    watch = _Watch(Choice.of(hosts, selector), interval, as_json=as_json)
    raise typer.Exit(asyncio.run(watch.run(is_live=is_live)))


class _Watch:
    """Looks at hosts again and again.

    Args:
        choice: Which hosts; all that are known if none is named.
        interval: Seconds between two looks.
        as_json: True to print an object for each host and look.
    """

    def __init__(self, choice: Choice, interval: float, *, as_json: bool) -> None:
        self._choice = choice
        self._interval = interval
        self._as_json = as_json
        self._gauges: dict[str, Gauge] = {}

    async def run(self, *, is_live: bool) -> int:
        """Look at them until the user has enough, or once."""
        connections: list[AsyncConnection] = []
        with Interrupts() as interrupts:
            try:
                # Who can't be reached is in the table.
                opening = open_chosen(self._choice, tell=_say_nothing)
                connections = await interrupts.unless_pressed(opening) or []
                if not connections:
                    return INTERRUPTED
                for one in connections:
                    self._gauges[one.name] = Gauge(one.name)
                    one.on("reconnecting", self._note_loss)
                work = self._live(connections) if is_live else self._once(connections)
                status = await interrupts.unless_pressed(work)
                return INTERRUPTED if status is None else status
            finally:
                await leave(connections)

    async def _once(self, connections: list[AsyncConnection]) -> int:
        await self._look_at_all(connections)
        if not self._as_json:
            rows = [tuple(map(visible, one.row())) for one in self._gauges.values()]
            print(Table(HEADERS, rows))
        return UNKNOWN if any(one.problem for one in self._gauges.values()) else 0

    async def _live(self, connections: list[AsyncConnection]) -> int:
        over = asyncio.Event()
        screen = contextlib.nullcontext() if self._as_json else _screen(self._gauges)
        with screen, _keys(over):
            looking = asyncio.ensure_future(self._look_on(connections))
            pressed = asyncio.ensure_future(over.wait())
            try:
                await asyncio.wait(
                    (looking, pressed), return_when=asyncio.FIRST_COMPLETED
                )
                if looking.done():
                    looking.result()
            finally:
                looking.cancel()
                pressed.cancel()
                await asyncio.wait((looking, pressed))
        return 0

    async def _look_on(self, connections: list[AsyncConnection]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + self._interval
            await self._look_at_all(connections)
            await asyncio.sleep(max(0.0, due - loop.time()))

    async def _look_at_all(self, connections: list[AsyncConnection]) -> None:
        """Look at all, side by side; note each as soon as it has answered."""
        gate = asyncio.Semaphore(MAX_DIALS)

        async def look(connection: AsyncConnection) -> None:
            async with gate:
                if connection.state["connection"] != "reconnecting":
                    self._gauges[connection.name] = await _look(connection)
            if self._as_json:
                facts = self._gauges[connection.name].in_json()
                print(json.dumps(facts), flush=True)

        await asyncio.gather(*map(look, connections))

    def _note_loss(self, connection: AsyncConnection) -> None:
        """Show at once that a link is lost; the connection dials again by itself."""
        self._gauges[connection.name] = Gauge.of(connection, None, LOST)


async def _look(connection: AsyncConnection) -> Gauge:
    sample: Sample | None = None
    problem = ""
    try:
        async with asyncio.timeout(ANSWER_LIMIT):
            await connection.connect()
            sample = await connection.metrics()
    except MlepoolError as exc:
        problem = str(getattr(exc, "cause", exc))
    except TimeoutError:
        problem = f"no answer within {ANSWER_LIMIT:g} s"
    return Gauge.of(connection, sample, problem)


def _say_nothing(_: str) -> None:
    """Say nothing of links that are lost: the table does."""


def _screen(gauges: dict[str, Gauge]) -> Any:
    """Draw them twice a second."""
    # Not at the top: it takes longer to load than one look at a host.
    live = importlib.import_module("rich.live")
    return live.Live(
        get_renderable=lambda: _drawn(list(gauges.values())),
        screen=True,
        refresh_per_second=REFRESHES,
    )


def _drawn(gauges: list[Gauge]) -> Any:
    """Draw the table as large as the screen."""
    table = importlib.import_module("rich.table").Table
    text = importlib.import_module("rich.text").Text
    drawn = table(box=None, title=summary(gauges), title_justify="left", expand=False)
    for header in HEADERS:
        justify = "right" if header in RIGHT else "left"
        # What is too long for the screen is cut in the last column.
        drawn.add_column(header, justify=justify, no_wrap=header != HEADERS[-1])
    room = max(1, os.get_terminal_size(sys.stdout.fileno()).lines - 4)
    for one in gauges[:room]:
        style = "red" if one.problem else "dim" if one.sample is None else ""
        cut = {"style": style, "no_wrap": True, "overflow": "ellipsis"}
        drawn.add_row(*(text(visible(cell), **cut) for cell in one.row()))
    left = len(gauges) - room
    drawn.caption = f"and {left} more; q ends it" if left > 0 else "q ends it"
    drawn.caption_justify = "left"
    return drawn


@contextlib.contextmanager
def _keys(over: asyncio.Event) -> Iterator[None]:
    """Set an event once a key says that it is enough."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        yield
        return
    # Not at the top: a Windows client has none of these.
    termios, tty = map(importlib.import_module, ("termios", "tty"))
    stdin = sys.stdin.fileno()
    before = termios.tcgetattr(stdin)

    def read() -> None:
        typed = os.read(stdin, 64)
        if not typed or set(typed) & set(QUIT_KEYS):
            over.set()

    loop = asyncio.get_running_loop()
    tty.setcbreak(stdin)
    loop.add_reader(stdin, read)
    try:
        yield
    finally:
        loop.remove_reader(stdin)
        termios.tcsetattr(stdin, termios.TCSADRAIN, before)
