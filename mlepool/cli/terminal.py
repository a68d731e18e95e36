"""Our own terminal, connected to that of a job: keys go there, output comes here."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from typing import Any

from mlepool.cli.exits import FAILED, INTERRUPTED, UNKNOWN, exit_status
from mlepool.cli.interrupts import Interrupts
from mlepool.cli.places import Place
from mlepool.cli.reach import NOT_SENT, leave, open_connection
from mlepool.cli.wording import come_back, complain
from mlepool.client.connection import AsyncConnection
from mlepool.client.ids import new_job_id
from mlepool.client.listening.listener import AsyncListener
from mlepool.client.listening.reader import Reader
from mlepool.errors import ClientError, MlepoolError

__all__ = ["Escapes", "Screen", "are_terminals", "run_at_terminal", "talk"]

KEYS_AHEAD = 64 * 1024  # bytes typed (or pasted) ahead of the job's reading
MEMORY = 256 * 1024  # bytes of output on their way: Ctrl-C is not to wait for more
LEAVE_HINT = "type Enter ~ . to leave the job running"
ENTER_SCREEN, LEAVE_SCREEN = b"\x1b[?1049h", b"\x1b[?1049l"  # full-screen programs do
# Colours, cursor, pasting and mouse as a shell has them.
PLAIN = b"\x1b[m\x1b[?25h\x1b[?2004l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l"


def are_terminals() -> bool:
    """Tell if stdin and stdout are a terminal."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def terminal_size() -> tuple[int, int]:
    """Give rows and columns, those of a common terminal where it has none."""
    rows, cols = termios.tcgetwinsize(sys.stdout.fileno())
    return rows or 24, cols or 80


class Escapes:
    """Finds "~." at the beginning of a typed line, as ssh does; "~~" is a "~".

    Attributes:
        has_left: True once it was found.
    """

    def __init__(self) -> None:
        self.has_left = False
        self._at_begin = True
        self._holds = False

    def take(self, typed: bytes) -> bytes:
        """Give what of the typed bytes is to be sent."""
        sent = bytearray()
        for key in typed:
            if self._holds:
                self._holds = False
                if key == ord("."):
                    self.has_left = True
                    break
                sent += b"~"
                if key == ord("~"):
                    self._at_begin = False
                    continue
            elif self._at_begin and key == ord("~"):
                self._holds = True
                continue
            sent.append(key)
            self._at_begin = key in b"\r\n"
        return bytes(sent)


class Screen:
    """Our terminal's screen; raw while its ``with`` block runs."""

    def __init__(self) -> None:
        self._fd = sys.stdout.fileno()
        self._is_raw = False
        self._is_full = False
        self._tail = b""

    @contextlib.contextmanager
    def raw(self) -> Iterator[None]:
        """Pass keys on as they are; whatever happens, restore the terminal."""
        stdin = sys.stdin.fileno()
        before = termios.tcgetattr(stdin)
        self._is_raw = True
        try:
            tty.setraw(stdin, termios.TCSADRAIN)
            yield
        finally:
            self._is_raw = False
            with contextlib.suppress(termios.error):  # it has been closed
                termios.tcsetattr(stdin, termios.TCSADRAIN, before)

    def write(self, data: bytes) -> None:
        """Write output as it is."""
        text = self._tail + data
        entered, left = text.rfind(ENTER_SCREEN), text.rfind(LEAVE_SCREEN)
        if entered != left:
            self._is_full = entered > left
        self._tail = text[1 - len(ENTER_SCREEN) :]
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:  # somebody has set the terminal so
                select.select((), (self._fd,), ())

    def say(self, text: str) -> None:
        """Say something of our own: in the last line of a full screen."""
        if not self._is_raw:
            complain(text)
        elif self._is_full:
            said = f"\x1b7\x1b[999;1H\x1b[7mmlepool: {text}\x1b[m\x1b[K\x1b8"
            self.write(said.encode())
        else:
            self.write(f"\r\nmlepool: {text}\r\n".encode())

    def tidy(self) -> None:
        """Undo what a program that goes on without us has done to the screen."""
        self.write((LEAVE_SCREEN if self._is_full else b"\r\n") + PLAIN)


class _Session:
    """One job at one terminal."""

    def __init__(self, listener: AsyncListener, screen: Screen) -> None:
        self._listener = listener
        self._screen = screen
        self._escapes = Escapes()
        self._keys = bytearray()
        self._has_keys = asyncio.Event()
        self._left = asyncio.Event()
        self._changed = asyncio.Event()
        self._is_stale = False
        self._is_reading = False

    async def run(self) -> bool:
        """Connect them until the job has ended, or is left: then give False."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGWINCH, self._changed.set)
        self._changed.set()
        self._read_on()
        shown = asyncio.ensure_future(self._show())
        others = [
            asyncio.ensure_future(one)
            for one in (self._left.wait(), self._send_keys(), self._send_size())
        ]
        try:
            await asyncio.wait((shown, others[0]), return_when=asyncio.FIRST_COMPLETED)
            return shown.done() and shown.result()
        finally:
            loop.remove_signal_handler(signal.SIGWINCH)
            self._read_no_more()
            for task in (shown, *others):
                task.cancel()
            await asyncio.wait((shown, *others))

    def redraw(self) -> None:
        """Have a full-screen program paint its screen anew."""
        self._is_stale = True
        self._changed.set()

    async def _show(self) -> bool:
        # Quiet: its failure is told by the exit status.
        reader = Reader(self._listener, quiet=True)
        while (records := await reader.next()) is not None:
            self._screen.write(b"".join(one.data for one in records))
        return True

    def _read_on(self) -> None:
        if not self._is_reading:
            self._is_reading = True
            asyncio.get_running_loop().add_reader(sys.stdin.fileno(), self._read)

    def _read_no_more(self) -> None:
        if self._is_reading:
            self._is_reading = False
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())

    def _read(self) -> None:
        try:
            typed = os.read(sys.stdin.fileno(), 4096)
        except OSError:
            typed = b""  # the terminal is gone
        self._keys += self._escapes.take(typed)
        if not typed or len(self._keys) >= KEYS_AHEAD:
            self._read_no_more()
        if not typed or self._escapes.has_left:
            self._left.set()
        self._has_keys.set()

    async def _send_keys(self) -> None:
        while True:
            await self._has_keys.wait()
            self._has_keys.clear()
            keys = bytes(self._keys)
            self._keys.clear()
            with contextlib.suppress(BrokenPipeError, ClientError):
                if keys:
                    await self._listener.send_input(keys)
            self._read_on()

    async def _send_size(self) -> None:
        with contextlib.suppress(ClientError):  # the link is given up: it is told
            while True:
                await self._changed.wait()
                self._changed.clear()
                rows, cols = terminal_size()
                if self._is_stale and rows > 1:
                    self._is_stale = False
                    await self._listener.resize(rows - 1, cols)
                await self._listener.resize(rows, cols)


async def talk(
    listener: AsyncListener, connection: AsyncConnection, screen: Screen
) -> bool:
    """Connect our terminal with a job's until that has ended.

    Returns:
        False if the user has left it, or the terminal is gone.

    Raises:
        ClientError: If the link was lost for good.
    """
    session = _Session(listener, screen)
    connection.on("reconnected", lambda _: session.redraw())
    has_ended = False
    with screen.raw():
        try:
            has_ended = await session.run()
        finally:
            if not has_ended:
                with contextlib.suppress(OSError):
                    screen.tidy()
    return has_ended


def run_at_terminal(
    name: str, place: Place, *, command: Any, keywords: dict[str, Any]
) -> int:
    """Run a command at a terminal of its own, connected with ours.

    Args:
        name: What the host is called.
        place: Where it is.
        command: What to run.
        keywords: As the worker's ``run`` takes them.

    Returns:
        Its exit status; 0 if it was left.
    """
    job = _Job(name, command, keywords)
    try:
        return asyncio.run(job.run(place))
    finally:
        if job.goes_on:
            with contextlib.suppress(OSError):  # the terminal is gone
                complain(come_back(job.id, name))


class _Job:
    """One command at a terminal of its own.

    Attributes:
        goes_on: True if it was begun, and has not ended as far as we know.
    """

    def __init__(self, name: str, command: Any, keywords: dict[str, Any]) -> None:
        rows, cols = terminal_size()
        self.id = new_job_id()
        self.goes_on = False
        self._name = name
        self._command = command
        self._keywords = {
            **keywords,
            **{"tty": True, "rows": rows, "cols": cols, "complete": False},
            **{"env": {"TERM": os.environ.get("TERM", "xterm")}, "memory": MEMORY},
        }

    async def run(self, place: Place) -> int:
        """Run it to its end, or until it is left."""
        screen = Screen()
        connection = open_connection(
            place.target, self._name, options=place.options, tell=screen.say
        )
        with Interrupts() as interrupts:
            try:
                work = self._run_on(connection, screen)
                status = await interrupts.unless_pressed(work)
                return INTERRUPTED if status is None else status
            except MlepoolError as exc:
                complain(str(exc))
                return UNKNOWN
            finally:
                await leave([connection])

    async def _run_on(self, connection: AsyncConnection, screen: Screen) -> int:
        await connection.connect()
        self.goes_on = True
        run, what = connection.find("run"), (self._command,)
        try:
            listener = await connection.call(run, what, self._keywords, job_id=self.id)
        except NOT_SENT as exc:
            self.goes_on = False
            complain(str(exc))
            return FAILED
        if not listener.intake.is_over:
            complain(LEAVE_HINT)
        if not await talk(listener, connection, screen):
            return 0
        self.goes_on = False
        return exit_status(listener, complain)
