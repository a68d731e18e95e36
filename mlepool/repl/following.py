"""Follows a command at a prompt: prints what comes, and says how it ended."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

from mlepool.client.listening.values import shown
from mlepool.client.sync import Connection, Listener
from mlepool.client.sync.group_listener import GroupListener
from mlepool.client.sync.interrupts import leave_alone

__all__ = ["Follower"]

COLOURS = (36, 33, 35, 32, 34, 31)  # SGR codes: cyan first, red last
SEPARATOR = " | "


class Follower:
    """Prints messages as they come, those of several hosts with their names.

    A line that is rewritten (a progress bar) is rewritten here, too; with several
    hosts only its last state is printed. Ctrl-C ends the waiting, not the command: it
    is said what goes on, and how to come back to it.

    Args:
        hosts: Whose messages may come.
    """

    def __init__(self, hosts: Sequence[Connection]) -> None:
        self._hosts = {one.name: one._async for one in hosts}
        width = max(map(len, self._hosts), default=0)
        is_terminal = sys.stdout.isatty()
        colours = COLOURS if is_terminal and not os.environ.get("NO_COLOR") else (0,)
        self._prefixes = {
            name: _prefix(name.ljust(width), colours[at % len(colours)])
            for at, name in enumerate(self._hosts)
        }
        self._clear = "\x1b[K" if is_terminal else ""

    def follow(self, listener: Listener) -> bool:
        """Print what one host says, to its end; then how it ended, if badly.

        Returns:
            False if Ctrl-C has ended the waiting.
        """
        try:
            for message in listener:
                end = getattr(message, "end", "\n")
                _write(f"{self._clear}{shown(message)}{end}", _stream(message))
        except KeyboardInterrupt:
            if self._owns(listener):
                release = self._hosts[listener.host].release
                leave_alone(release, listener.id, listener.host)
            return False
        self._say_end("", listener)
        return True

    def follow_all(self, group: GroupListener) -> bool:
        """Print what several hosts say; as :meth:`follow`."""
        try:
            for host, message in group:
                if getattr(message, "end", "\n") != "\r":
                    _write(f"{self._prefixes[host]}{shown(message)}\n", sys.stdout)
        except KeyboardInterrupt:
            if group.waiting or any(map(self._owns, group.values())):
                group.leave_alone()
            return False
        for host in group.names:
            self._say_end(self._prefixes[host], group[host])
        return True

    def _owns(self, listener: Listener) -> bool:
        """Tell if nobody has said yet that it goes on.

        What waits for messages says that itself. Who is interrupted elsewhere, while
        printing, has it to say here.
        """
        return listener.id in self._hosts[listener.host].owned()

    def _say_end(self, prefix: str, listener: Listener) -> None:
        if listener.ok:
            return
        code = listener.exit_code
        error = str(listener.error or "").partition("\n")[0]
        how = f"exit {code}" if code and code > 0 else error
        took = f"after {listener.duration:.1f} s" if code is not None else ""
        words = " ".join(filter(None, (str(listener.status), how, took)))
        _write(f"{prefix}[{words}]\n", sys.stdout)


def _prefix(text: str, colour: int) -> str:
    return (f"\x1b[{colour}m{text}\x1b[0m" if colour else text) + SEPARATOR


def _stream(message: Any) -> Any:
    return sys.stderr if getattr(message, "stream", "") == "stderr" else sys.stdout


def _write(text: str, file: Any) -> None:
    file.write(text)
    file.flush()
