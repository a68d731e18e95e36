"""Terminals for tests: the command line at a screen, with somebody who types."""

import contextlib
import os
import pty
import re
import select
import subprocess
import termios
import time
from collections.abc import Iterator

from tests.cli.shell import LIMIT, MLEPOOL


class Terminal:
    """A terminal of 30 rows and 100 columns, with a command that runs at it."""

    def __init__(self, *arguments: str) -> None:
        self.ours, its = pty.openpty()
        termios.tcsetwinsize(its, (30, 100))
        self.modes = termios.tcgetattr(its)
        self.its = its
        # Whoever runs the tests may say how wide another terminal is.
        sizes = ("COLUMNS", "LINES")
        env = {name: value for name, value in os.environ.items() if name not in sizes}
        self.process = subprocess.Popen(
            ["setsid", "-c", *MLEPOOL, *arguments],
            stdin=its,
            stdout=its,
            stderr=its,
            env={**env, "TERM": "xterm"},
        )
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self.ours, text.encode())

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until something is on the screen; what came before it is forgotten."""
        deadline = time.monotonic() + LIMIT / 2
        while not (found := re.search(pattern, self.seen, re.DOTALL)):
            assert time.monotonic() < deadline, (pattern, self.seen)
            self._read()
        self.seen = self.seen[found.end() :]
        return found

    def end(self) -> int:
        """Wait for the end of the command; give its exit status."""
        deadline = time.monotonic() + LIMIT / 2
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.seen
            self._read()
        self._read()
        assert self.is_restored()
        return self.process.returncode

    def is_restored(self) -> bool:
        return termios.tcgetattr(self.its)[:6] == self.modes[:6]

    def _read(self) -> None:
        if select.select([self.ours], [], [], 0.1)[0]:
            self.seen += os.read(self.ours, 65536).decode()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.ours)
        os.close(self.its)


@contextlib.contextmanager
def at_terminal(*arguments: str) -> Iterator[Terminal]:
    terminal = Terminal(*arguments)
    try:
        yield terminal
    finally:
        terminal.close()
