"""Custom commands: functions of the user, checked before anybody can call them."""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import msgspec
from msgspec import inspect as types

from mlepool.wire.messages import CommandSpec
from mlepool.worker.access.grants import ROLES
from mlepool.worker.registry import Command, Function, describe, in_words

__all__ = ["Bundle", "CustomCommand", "Given", "UnfitError", "place_of"]

# Sources are read side by side, and CPython counts the depth of all the syntax trees
# that threads are making together: a collection in between is a SystemError.
_PARSING = threading.Lock()
_STARS = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class UnfitError(Exception):
    """A function can't be a command; the text says why."""


class Given(NamedTuple):
    """A call's arguments, as they were checked.

    Attributes:
        values: By name.
        paths: Those that a client has given, wherever in them.
    """

    values: dict[str, Any]
    paths: tuple[PurePath, ...] = ()


class Bundle:
    """What was loaded from one place, and lives and ends together.

    Args:
        shutdown: To be called once it is retired and no command of it runs.
    """

    def __init__(self, shutdown: Callable[[], object]) -> None:
        self._shutdown = shutdown
        self._running = 0
        self._is_retired = False

    def enter(self) -> None:
        """Note that a command of it begins."""
        self._running += 1

    def leave(self) -> None:
        """Note that a command of it has ended."""
        self._running -= 1
        self._end_if_idle()

    def retire(self) -> None:
        """Begin nothing more of it; it is shut down once nothing of it runs."""
        if not self._is_retired:
            self._is_retired = True
            self._end_if_idle()

    def _end_if_idle(self) -> None:
        if self._is_retired and self._running == 0:
            self._shutdown()


class CustomCommand(Command):
    """One custom command.

    Args:
        name: How clients call it: ``"resize"``, or ``"images.resize"``.
        function: What it does; a method is bound already.
        about: What its capability is for.
        bundle: What it was loaded with.

    Raises:
        UnfitError: If no client could call it.

    Attributes:
        is_async: True if it runs in the event loop, False for a thread of its own.
        takes_context: True if its first parameter is called ``ctx``.
        bundle: As given.
    """

    def __init__(
        self, name: str, function: Function, *, about: str = "", bundle: Bundle
    ) -> None:
        try:
            signature = inspect.signature(function)
            spec = describe(name, function)
            hints = typing.get_type_hints(function, include_extras=True)
        except Exception as exc:
            # Whatever an annotation raises: it is the author's to know.
            raise UnfitError(f"its signature can't be read: {exc}") from exc
        self.spec: CommandSpec = msgspec.structs.replace(
            spec, streams=True, spawns=False, about=about
        )
        if spec.role not in ROLES:
            raise UnfitError(f"there is no role {spec.role!r}, but {', '.join(ROLES)}")
        self.bundle = bundle
        self.is_repeatable = self.is_once = False  # its journal knows what was done
        self.is_async = inspect.iscoroutinefunction(
            function
        ) or inspect.isasyncgenfunction(function)
        self._function = function
        parameters = dict(signature.parameters)
        self.takes_context = next(iter(parameters), "") == "ctx"
        if self.takes_context:
            del parameters["ctx"]
        self._own_paths = {
            one.name: one.default
            for one in parameters.values()
            if isinstance(one.default, Path)
        }
        self._expected = {one.name: one.annotation for one in spec.parameters}
        self._arguments = _arguments(name, parameters, hints)

    def check(self, arguments: Mapping[str, Any], cwd: Path) -> Given:
        """Check a call's arguments; paths count from the connection's directory.

        Raises:
            TypeError: If they don't fit; names command, argument and what is expected.
        """
        paths: list[PurePath] = []
        hook = functools.partial(_convert, cwd=cwd, paths=paths)
        try:
            checked = msgspec.convert(dict(arguments), self._arguments, dec_hook=hook)
        except msgspec.ValidationError as exc:
            raise TypeError(f"{self.spec.name}(): {self._in_words(exc)}") from None
        own = {name: cwd / path for name, path in self._own_paths.items()}
        values = {name: getattr(checked, name) for name in arguments}
        return Given({**own, **values}, tuple(paths))

    def prepare(self, context: object, given: Mapping[str, Any]) -> Callable[[], Any]:
        """Make the call, with arguments that were checked."""
        if self.takes_context:
            return functools.partial(self._function, context, **given)
        return functools.partial(self._function, **given)

    def _in_words(self, exc: msgspec.ValidationError) -> str:
        text = in_words(exc)
        name = text.partition(":")[0].partition(".")[0].partition("[")[0]
        expected = self._expected.get(name, "")
        return f"{text}; it is {expected}" if "enum value" in text else text


def place_of(function: Any) -> str:
    """Say where a function or class is written, as ``file:line``; empty if unknown."""
    inner = inspect.unwrap(getattr(function, "__func__", function))
    code = getattr(inner, "__code__", None)
    if code is not None:
        return f"{code.co_filename}:{code.co_firstlineno}"
    try:
        with _PARSING:
            lines, number = inspect.getsourcelines(inner)
        return f"{inspect.getsourcefile(inner)}:{number if lines else 0}"
    except (OSError, TypeError):
        return ""


def _arguments(
    name: str, parameters: Mapping[str, inspect.Parameter], hints: dict[str, Any]
) -> type[msgspec.Struct]:
    """Make what arguments are converted to, and see that they can be.

    Raises:
        UnfitError: If not.
    """
    fields: list[Any] = []
    for one in parameters.values():
        if one.kind in _STARS or one.kind is one.POSITIONAL_ONLY:
            raise UnfitError(
                f"{one}: arguments come by name; no *, ** or / is possible"
            )
        kind = hints.get(one.name, Any)
        try:
            _check_kind(kind)
        except (TypeError, ValueError, RecursionError) as exc:
            raise UnfitError(f"{one.name}: arguments can't be checked: {exc}") from exc
        has_default = one.default is not one.empty
        fields.append(
            (one.name, kind, msgspec.UNSET) if has_default else (one.name, kind)
        )
    return msgspec.defstruct(name, fields, kw_only=True, forbid_unknown_fields=True)


def _check_kind(kind: Any) -> None:
    info = types.type_info(kind)
    for custom in _customs(info, set()):
        if not (isinstance(custom, type) and issubclass(custom, PurePath)):
            named = getattr(custom, "__name__", custom)
            raise TypeError(f"{named} is no data: use a dataclass, for example")
    # None is no such thing, as a rule; what can't be checked at all is a TypeError.
    with contextlib.suppress(msgspec.ValidationError):
        msgspec.convert(None, kind, dec_hook=lambda kind, value: value)


def _customs(info: Any, seen: set[Any]) -> Iterator[Any]:
    """Find the types in an annotation that msgspec does not know by itself."""
    if isinstance(info, types.CustomType):
        yield info.cls
        return
    named = getattr(info, "cls", None)
    if named is not None:
        if named in seen:
            return
        seen.add(named)
    if isinstance(info, types.Type | types.Field):
        for name in info.__struct_fields__:
            value = getattr(info, name)
            for one in value if isinstance(value, tuple) else (value,):
                if isinstance(one, types.Type | types.Field):
                    yield from _customs(one, seen)


def _convert(
    kind: type[PurePath], value: Any, *, cwd: Path, paths: list[PurePath]
) -> PurePath:
    if not isinstance(value, str):
        raise TypeError(f"Expected `path`, got `{type(value).__name__}`")
    path = cwd / Path(value).expanduser() if issubclass(kind, Path) else kind(value)
    paths.append(path)
    return path
