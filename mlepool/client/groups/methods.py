"""The workers' commands as methods of a group: ``group.images.resize(...)``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from mlepool.client.catalogue.commands import BoundCommand
from mlepool.client.catalogue.signatures import Source
from mlepool.client.connection import AsyncConnection

__all__ = ["GROUP_KEYWORDS", "GroupMethod", "offered_by", "part_keywords"]

# What a call of a group takes besides the keywords of a command: it means the group.
GROUP_KEYWORDS: dict[str, Any] = {
    "max_parallel": None,
    "batch": None,
    "fail_fast": False,
    "max_failures": None,
    "retries": 0,
    "retry_lost": False,
    "connect_timeout": None,
}


GROUP_DOC = """On a group it is called on all hosts, and gives a GroupListener. For that
there are ``max_parallel``, ``batch``, ``fail_fast``, ``max_failures``, ``retries``,
``retry_lost`` and ``connect_timeout``: see ``run`` of the group.
"""


def part_keywords(
    keywords: dict[str, Any],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Part what is given to a call: the group's keywords, and the command's."""
    own = {one: keywords[one] for one in GROUP_KEYWORDS if one in keywords}
    return own, {one: keywords[one] for one in keywords if one not in own}


def offered_by(connections: Sequence[AsyncConnection]) -> list[str]:
    """Give the names of what at least one worker offers: commands, capabilities."""
    names = {
        one.partition(".")[0]
        for connection in connections
        for one in connection.server_methods()
    }
    return sorted(names)


class GroupMethod:
    """A command on all hosts of a group, or a capability with its actions.

    Args:
        name: As it stands in names of commands.
        connections: The group's members.
        call: Calls a command by its name.

    As long as no member was ever connected, any name is taken: the call connects, and
    says what is wrong.

    Raises:
        AttributeError: If no member offers it; says what is near.
    """

    def __init__(
        self,
        name: str,
        connections: Sequence[AsyncConnection],
        call: Callable[..., Any],
    ) -> None:
        self._name = name
        self._connections = connections
        self._call = call
        self.__name__ = name.rpartition(".")[2]
        found = next((one for one in connections if _offers(one, name)), None)
        if found is None:
            _refuse(name, connections)
        elif name in found.server_methods():
            self._describe(found.find(name))

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        """Call the command on all hosts."""
        return self._call(self._name, *args, **keywords)

    def __getattr__(self, name: str) -> GroupMethod:
        if name.startswith("_"):
            raise AttributeError(name)
        return GroupMethod(f"{self._name}.{name}", self._connections, self._call)

    def __dir__(self) -> list[str]:
        start = f"{self._name}."
        return sorted(
            {
                one.removeprefix(start).partition(".")[0]
                for connection in self._connections
                for one in connection.server_methods()
                if one.startswith(start)
            }
        )

    def __repr__(self) -> str:
        return f"<{self._name} on {len(self._connections)} hosts>"

    def _describe(self, command: BoundCommand) -> None:
        """Take over the command's docs and signature, and add the group's keywords."""
        self.__doc__ = f"{command.doc}\n{GROUP_DOC}"
        own = command.signature.parameters
        kind = inspect.Parameter.KEYWORD_ONLY
        more = [
            inspect.Parameter(name, kind, default=default)
            for name, default in GROUP_KEYWORDS.items()
            if name not in own
        ]
        returned = Source("GroupListener")
        self.__signature__ = inspect.Signature(
            [*own.values(), *more], return_annotation=returned
        )


def _offers(connection: AsyncConnection, name: str) -> bool:
    start = f"{name}."
    return any(
        one == name or one.startswith(start) for one in connection.server_methods()
    )


def _refuse(name: str, connections: Sequence[AsyncConnection]) -> None:
    """Say that no member offers a name, if any of them has said what it offers.

    Raises:
        AttributeError: Then; says what is near.
    """
    for one in connections:
        if one.server_methods():
            one.find(name)  # it says what is near
            raise AttributeError(name)
