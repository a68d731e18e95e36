"""What a group's call does on each host, once there is a link to it."""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from msgspec import structs

from mlepool.client.calls import Calls
from mlepool.client.connection import AsyncConnection
from mlepool.client.listening.intake import MIN_MEMORY
from mlepool.client.listening.listener import AsyncListener
from mlepool.client.local import UNBOUNDED, LocalJob
from mlepool.client.options import (
    DEFAULT_MEMORY,
    OF_EVERY_CALL,
    CallOptions,
    Kind,
    split_options,
)
from mlepool.client.printing import display

__all__ = ["CommandOrder", "FileOrder", "Order"]

# Files take libraries that a program which only runs commands need not load.
_SHARING = "mlepool.client.files.sharing"

# Bytes of output that a group's listeners hold in all, by default; each holds as much
# as a single one if they are few, and the least there can be if they are many.
GROUP_MEMORY = 256 * 1024 * 1024

Slow = Coroutine[Any, Any, object]


class Order(Protocol):
    """What is done on each host.

    Attributes:
        text: What it is, for people.
        verb: The same with the command's name, for a repr: ``run 'make'``.
        options: What the caller asked for, as far as it is known before a host is.
        is_repeatable: True if it does no harm to do twice what may have been done.
    """

    is_repeatable: bool
    text: str
    verb: str
    options: CallOptions

    def begin(self, conn: AsyncConnection, listener: AsyncListener) -> Slow | None:
        """Begin it on one host, over a link that is there.

        Returns:
            What has to be waited for until it has begun; None if it has.

        Raises:
            Exception: If it can't be done there.
        """


class CommandOrder:
    """A command of the workers, by its name.

    Args:
        name: The command.
        args: Positional arguments.
        keywords: The others, and the client's own.
        count: How many hosts there are.
    """

    is_repeatable = False

    def __init__(
        self, name: str, args: tuple[Any, ...], keywords: dict[str, Any], *, count: int
    ) -> None:
        self._name = name
        self._args = args
        self._keywords = keywords
        self._count = count
        self._shared: Any = None
        if keywords.get("sync") is not None:
            self._shared = importlib.import_module(_SHARING).SharedSync()
        said = display(_said(args, keywords)) if name == "run" else ""
        self.text = said or name
        self.verb = f"run {said!r}" if said else name
        common = {one: keywords[one] for one in OF_EVERY_CALL if one in keywords}
        options, _ = split_options(common, kind=Kind.VALUE)
        memory = keywords.get("memory")
        if isinstance(memory, bool) or not isinstance(memory, int) or memory < 0:
            memory = min(DEFAULT_MEMORY, max(MIN_MEMORY, GROUP_MEMORY // max(1, count)))
        self.options = structs.replace(options, memory=memory)

    def check(self, connections: Sequence[AsyncConnection]) -> None:
        """See if the call fits the command of a worker, of those that are known.

        Raises:
            AttributeError: If none has such a command.
            TypeError, ValueError, LookupError: If the arguments fit none's.
        """
        problem: Exception | None = None
        if self._count > 1:
            _check_input(self._keywords.get("input"))
        for conn in connections:
            if not conn.server_methods():
                continue
            try:
                conn.find(self._name).bind(self._args, self._keywords)
            except (AttributeError, TypeError, ValueError, LookupError) as exc:
                problem = problem or exc
            else:
                return
        if problem is not None:
            raise problem

    def begin(self, conn: AsyncConnection, listener: AsyncListener) -> Slow | None:
        """Begin it on one host."""
        command = conn.find(self._name)
        keywords = {**self._keywords, "echo_response": False}
        sync = None
        if self._shared is not None:
            sync = functools.partial(self._shared.over, conn)
        return conn.begin_call(
            command, self._args, keywords, listener=listener, sync=sync
        )


class FileOrder:
    """What is done with files, by this side.

    Args:
        text: What it is, for people.
        options: The client's options.
        work: Begins it over a connection, for a listener.
    """

    is_repeatable = True

    def __init__(
        self,
        text: str,
        options: CallOptions,
        work: Callable[[Calls, AsyncListener], LocalJob],
    ) -> None:
        self.text = self.verb = text
        self.options = structs.replace(options, memory=UNBOUNDED)
        self._work = work

    def begin(self, conn: AsyncConnection, listener: AsyncListener) -> None:
        """Begin it on one host."""
        conn.begin_here(lambda calls: self._work(calls, listener))


def _said(args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    given = keywords.get("command", keywords.get("cmd", "run"))
    return args[0] if args else given


def _check_input(source: Any) -> None:
    """See that each host can be given the same.

    Raises:
        TypeError: If it can be read only once.
    """
    if source is not None and not isinstance(source, str | bytes | os.PathLike):
        kind = type(source).__name__
        raise TypeError(f"input for several hosts is str, bytes or a Path, not {kind}")
