"""``%on`` and ``%%on`` for IPython and notebooks, and completion there."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import mlepool
from mlepool.client.sync import ClientPool
from mlepool.repl.completion import Completer
from mlepool.repl.following import Follower
from mlepool.repl.host_mode import HostMode
from mlepool.repl.hosts import fill, members
from mlepool.repl.tracebacks import SHORT, is_short, shortened
from mlepool.repl.words import OnLine, is_on

__all__ = ["Magics", "load"]


class Magics:
    """The magics of one IPython shell.

    Args:
        shell: IPython's.
    """

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._completer = Completer(shell.user_ns)

    def on_line(self, line: str) -> Any:
        """Run a command on hosts, or have lines run there until ``exit``.

        ``%on HOSTS COMMAND`` prints what it says as it comes, and gives its
        GroupListener; ``%on HOSTS`` enters host mode. ``-l SELECTOR`` in place of HOSTS
        selects by labels.

        Raises:
            ValueError: If no host is named.
            KeyError: If there is no such host.
        """
        wanted = OnLine.parse(line)
        if wanted.command:
            return self._run(wanted, wanted.command)
        if getattr(self._shell, "kernel", None) is not None:
            raise ValueError("in a notebook it is %on HOSTS COMMAND, or %%on HOSTS")
        pool = self._pool()
        HostMode(pool, wanted.hosts(pool)).run()
        return None

    def on_cell(self, line: str, cell: str) -> Any:
        """Run a cell on hosts, by /bin/sh; or give it to a program there as input.

        ``%%on HOSTS`` runs the cell as a shell script, ``%%on HOSTS python3 -`` has
        ``python3 -`` read it. What comes is printed as it comes; the value is the
        GroupListener.

        Raises:
            ValueError: If no host is named.
            KeyError: If there is no such host.
        """
        wanted = OnLine.parse(line)
        if wanted.command:
            return self._run(wanted, wanted.command, input=cell)
        return self._run(wanted, cell)

    def colon(self, lines: list[str]) -> list[str]:
        """Have ``:on`` be ``%on``, as at the plain prompt."""
        if lines and is_on(lines[0]):
            return [lines[0].replace(":on", "%on", 1), *lines[1:]]
        return lines

    def matches(self, context: Any) -> dict[str, Any]:
        """Complete what IPython's own completion can't know."""
        line = context.text_until_cursor.rpartition("\n")[2]
        found = self._completer.complete(line)
        if found is None:
            return {"completions": [], "suppress": False}
        return {
            "completions": [_Choice(one) for one in found.choices],
            "matched_fragment": found.text,
            "ordered": True,
            "suppress": bool(found.choices),
        }

    def _run(self, wanted: OnLine, command: str, **keywords: Any) -> Any:
        pool = self._pool()
        hosts = members(pool, wanted.hosts(pool))
        chosen = pool.group(*(one.name for one in hosts))
        group = chosen.run(command, complete=False, **keywords)
        Follower(hosts).follow_all(group)
        return group

    def _pool(self) -> ClientPool:
        """Give the user's ``pool``, or the default one with all known hosts."""
        found = self._shell.user_ns.get("pool")
        pool = found if isinstance(found, ClientPool) else mlepool.pool
        if pool is mlepool.pool and not len(pool):
            fill(pool)
        return pool


class _Choice:
    """What IPython takes as a completion."""

    type = "mlepool"

    def __init__(self, text: str) -> None:
        self.text = text


def load(shell: Any) -> None:
    """Add the magics and the completion to an IPython shell; twice is fine."""
    magics = Magics(shell)
    shell.register_magic_function(_told(magics.on_line), "line", "on")
    shell.register_magic_function(_told(magics.on_cell), "cell", "on")
    shell.input_transformers_cleanup.append(magics.colon)
    if getattr(shell, "kernel", None) is None:  # notebooks fold what is long
        shell.set_custom_exc(SHORT, _tell)
    _add_matcher(shell.Completer, magics)


def _tell(
    shell: Any, kind: type[BaseException], exc: BaseException, *rest: Any, **more: Any
) -> None:
    """Show an error as short as it can be; IPython calls this."""
    if is_short(exc):
        print(shortened(exc), file=sys.stderr, end="")
    else:
        shell.set_custom_exc((), None)
        try:
            shell.showtraceback((kind, exc, *rest[:1]))
        finally:
            shell.set_custom_exc(SHORT, _tell)


def _told(function: Callable[..., Any]) -> Callable[..., Any]:
    """Have what is mistyped told in a line, and not by a traceback."""
    from IPython.core.error import UsageError

    @functools.wraps(function)
    def call(*texts: str) -> Any:
        try:
            return function(*texts)
        except (ValueError, LookupError) as exc:
            raise UsageError(exc.args[0] if exc.args else exc) from None

    return call


def _add_matcher(completer: Any, magics: Magics) -> None:
    def match(context: Any) -> dict[str, Any]:
        return magics.matches(context)

    # What IPython asks of a matcher that is told where the cursor is.
    match.matcher_api_version = 2  # type: ignore[attr-defined]
    match.matcher_identifier = "mlepool"  # type: ignore[attr-defined]
    match.matcher_priority = 1000.0  # type: ignore[attr-defined]
    completer.custom_matchers = [
        *(
            one
            for one in completer.custom_matchers
            if getattr(one, "matcher_identifier", "") != "mlepool"
        ),
        match,
    ]
