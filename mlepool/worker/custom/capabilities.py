"""Capabilities: custom commands under a name, with what begins and ends them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, NamedTuple, TypeVar, overload

from mlepool.worker.custom.command import UnfitError, place_of
from mlepool.worker.registry import Function, find_commands, is_command

__all__ = ["NAME", "Part", "capability", "parts_of"]

NAME = "__capability__"  # in a module: it is one capability, of this name
T = TypeVar("T", bound=Callable[..., Any])

_MARK = "__mlepool_capability__"
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class Part(NamedTuple):
    """What is loaded, set up and shut down together.

    Attributes:
        name: The capability's; empty for commands that stand for themselves.
        about: Its docstring.
        functions: Its commands, by name.
        place: Where it is written, as ``file:line``.
        setup: To be called before any command; None if there is nothing to do.
        shutdown: To be called after the last one.
    """

    name: str
    about: str
    functions: dict[str, Function]
    place: str = ""
    setup: Callable[[], Any] | None = None
    shutdown: Callable[[], Any] | None = None


@overload
def capability(thing: T, /) -> T: ...
@overload
def capability(*, name: str = "") -> Callable[[T], T]: ...
def capability(thing: Any = None, /, *, name: str = "") -> Any:
    """Mark a class as a capability: ``@capability``, ``@capability(name="images")``.

    Its public methods that are marked with ``@command`` are its actions: clients call
    ``conn.images.resize(...)``. One instance is made when the worker loads it, without
    arguments; its method ``setup`` is called before it is offered, ``shutdown`` after
    the last action has ended. Both may be async. Its docstring is its help.

    A function that is marked is a factory: it is called once, and makes the instance.

    Args:
        thing: The class or function.
        name: What clients call it; by default the class's name in small letters, with
            underscores (``ImageTools`` is ``image_tools``), or the function's name.
    """

    def mark(thing: Any) -> Any:
        setattr(thing, _MARK, name or _snake(thing.__name__))
        return thing

    return mark if thing is None else mark(thing)


def parts_of(thing: Any, *, name: str = "") -> list[Part]:
    """Find the commands and capabilities in something that was loaded.

    Args:
        thing: A module; a class, or an instance of one; a function.
        name: The capability's name, or the function's, in place of its own.

    Raises:
        UnfitError: If there are none.
    """
    if isinstance(thing, ModuleType):
        return _parts_of_module(thing, name)
    if inspect.isclass(thing):
        return [_part_of(thing(), name or _name_of(thing))]
    if inspect.isroutine(thing):
        if hasattr(thing, _MARK):
            return [_part_of(thing(), name or _name_of(thing), place_of(thing))]
        own = name or thing.__name__
        return [Part("", "", {own: thing}, place_of(thing))]
    return [_part_of(thing, name or _name_of(type(thing)))]


def _parts_of_module(module: ModuleType, name: str) -> list[Part]:
    parts = []
    functions: dict[str, Function] = {
        key: one
        for key, one in find_commands(module).items()
        if inspect.isroutine(one) and not key.startswith("_")
    }
    if functions:
        name = name or getattr(module, NAME, "")
        hooks = [_hook(getattr(module, one, None)) for one in ("setup", "shutdown")]
        about = inspect.getdoc(module) or "" if name else ""
        place = str(getattr(module, "__file__", ""))
        parts.append(Part(name, about, functions, place, *hooks))
    for one in vars(module).values():
        if _MARK in getattr(one, "__dict__", {}) and one.__module__ == module.__name__:
            parts += parts_of(one)
    if not parts:
        raise UnfitError("nothing in it is marked with @command or @capability")
    return parts


def _part_of(instance: object, name: str, place: str = "") -> Part:
    kind = type(instance)
    functions = dict(_actions(instance))
    if not functions:
        raise UnfitError(f"{kind.__name__} has no method that is marked with @command")
    hooks = [_hook(getattr(instance, one, None)) for one in ("setup", "shutdown")]
    about = inspect.getdoc(instance) or ""
    return Part(name, about, functions, place or place_of(kind), *hooks)


def _actions(instance: object) -> Iterator[tuple[str, Function]]:
    """Find the methods that are marked, in the order in which they are written."""
    names = {
        key: None for kind in reversed(type(instance).__mro__) for key in vars(kind)
    }
    for key in names:
        found = inspect.getattr_static(type(instance), key, None)
        inner = getattr(found, "__func__", found)  # of a class or static method
        if not key.startswith("_") and (is_command(found) or is_command(inner)):
            yield key, getattr(instance, key)


def _hook(found: Any) -> Callable[[], Any] | None:
    return found if callable(found) and not is_command(found) else None


def _name_of(thing: Any) -> str:
    return str(vars(thing).get(_MARK, "")) or _snake(thing.__name__)


def _snake(name: str) -> str:
    return _HUMP.sub("_", name).lower()
