"""Capabilities of a worker, with their actions: ``conn.images.resize(...)``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from mlepool.client.catalogue.commands import BoundCommand, Catalogue

__all__ = ["Namespace", "Offered", "Unbound", "offered"]

R_co = TypeVar("R_co", covariant=True)

Bind = Callable[[BoundCommand], Any]


class Offered(Protocol[R_co]):
    """What a worker offers by a name: a command, or a capability with actions."""

    def __call__(self, *args: Any, **keywords: Any) -> R_co:
        """Call the command."""

    def __getattr__(self, name: str) -> Offered[R_co]:
        """Give an action of the capability."""


class Namespace:
    """One capability of a worker. Its actions are attributes, as the worker has them.

    Args:
        catalogue: Gives the worker's present catalogue.
        name: The capability's, as it stands in names of commands.
        bind: Makes a method of a command.
    """

    def __init__(
        self, catalogue: Callable[[], Catalogue], name: str, bind: Bind
    ) -> None:
        self._catalogue = catalogue
        self._name = name
        self._bind = bind
        self.__doc__ = _doc(catalogue(), name)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return offered(self._catalogue, f"{self._name}.{name}", self._bind)

    def __dir__(self) -> list[str]:
        return self._catalogue().within(self._name)

    def __repr__(self) -> str:
        actions = ", ".join(dir(self)) or "none"
        worker = self._catalogue().worker
        return f"<capability {self._name} of {worker}: {actions}>"


class Unbound:
    """What a worker may offer by a name: it was never asked.

    Called, it connects; only then it is known if there is such a command.

    Args:
        name: As it stands in names of commands.
        call: Connects, and calls a command by its name.
    """

    def __init__(self, name: str, call: Callable[..., Any]) -> None:
        self._name = name
        self._call = call

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        """Connect, and call the command."""
        return self._call(self._name, *args, **keywords)

    def __getattr__(self, name: str) -> Unbound:
        if name.startswith("_"):
            raise AttributeError(name)
        return Unbound(f"{self._name}.{name}", self._call)

    def __repr__(self) -> str:
        return f"<{self._name} of a worker that was not connected yet>"


def offered(catalogue: Callable[[], Catalogue], name: str, bind: Bind) -> Any:
    """Give what a worker offers by a name: a method, or a capability.

    Args:
        catalogue: Gives the worker's present catalogue.
        name: Of a command or a capability.
        bind: Makes a method of a command.

    Raises:
        AttributeError: If there is no such thing; names the worker and the nearest
            command.
    """
    present = catalogue()
    command = present.get(name)
    if command is not None:
        return bind(command)
    if present.within(name):
        return Namespace(catalogue, name, bind)
    present.find(name)  # it says what is wrong
    raise AttributeError(name)


def _doc(catalogue: Catalogue, name: str) -> str:
    """Describe a capability: what it is for, and each action."""
    start = f"{name}."
    actions = [one for one in catalogue if one.spec.name.startswith(start)]
    about = next((one.spec.about for one in actions if one.spec.about), "")
    parts = [about] if about else []
    parts += [f"{_shown(one)}\n    {one.summary}" for one in actions]
    return "\n\n".join(parts) + "\n"


def _shown(command: BoundCommand) -> str:
    return f"{command.spec.name}{command.own_signature}"
