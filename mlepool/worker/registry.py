"""Commands: the decorator, their signatures as data, validation of arguments."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple, TypeVar, overload

import msgspec

from mlepool.wire.catalogue import Packed, pack
from mlepool.wire.messages import CommandSpec, Parameter
from mlepool.worker.interface import Context, Process

__all__ = [
    "Command",
    "Context",
    "Function",
    "Process",
    "Registry",
    "check_size",
    "command",
    "describe",
    "find_commands",
    "in_words",
    "is_command",
    "marks_of",
]

Function = Callable[..., Any]
F = TypeVar("F", bound=Function)

MAX_CELLS = 0xFFFF  # rows or columns of a terminal: the kernel has 16 bits
_MARK = "__mlepool_command__"


class Marks(NamedTuple):
    """What a command's decorator was given; see :func:`command`."""

    role: str = "run"
    blocks: bool = False
    repeatable: bool = False
    once: bool = False


class Command:
    """One command: a function, and what the world may know of it.

    Args:
        function: What it does. Its annotations are what arguments are checked against.
        spec: Its name, docstring and signature as data.

    Attributes:
        is_repeatable: True if it may be called again for a repeated request.
        is_once: True if it may not, whatever has happened.
    """

    def __init__(self, function: Function, spec: CommandSpec) -> None:
        self.spec = spec
        self._function = function
        self._blocks = marks_of(function).blocks
        self.is_repeatable = marks_of(function).repeatable
        self.is_once = marks_of(function).once
        parameters = inspect.signature(function).parameters
        self._takes_context = next(iter(parameters), "") == "ctx"
        hints = typing.get_type_hints(function)
        self._arguments = _arguments_struct(spec.name, parameters, hints=hints)

    def call(self, context: Context, arguments: Mapping[str, Any]) -> Any:
        """Check the arguments and call the function.

        Raises:
            TypeError: If they don't fit its annotations; names the argument.
        """
        try:
            checked = msgspec.convert(arguments, self._arguments)
        except msgspec.ValidationError as exc:
            raise TypeError(f"{self.spec.name}(): {in_words(exc)}") from None
        given = {name: getattr(checked, name) for name in arguments}
        first = (context,) if self._takes_context else ()
        if self._blocks:
            work = functools.partial(self._function, *first, **given)
            return context.threads.call(work)
        return self._function(*first, **given)


class Registry:
    """The commands that a worker offers; names that begin with ``_`` are not listed."""

    def __init__(self, functions: Mapping[str, Function]) -> None:
        self._builtin = {
            name: Command(function, describe(name, function))
            for name, function in functions.items()
        }
        self._commands = self._builtin.copy()
        self._packed: Packed | None = None

    @property
    def builtin(self) -> Collection[str]:
        """The names that no custom command may have."""
        return self._builtin.keys()

    def offer(self, custom: Mapping[str, Command]) -> None:
        """Offer these commands beside the built-in ones, in place of former ones."""
        self._commands = {**self._builtin, **custom}
        self._packed = None

    def find(self, name: str) -> Command:
        """Find a command.

        Raises:
            LookupError: If there is none of this name.
        """
        try:
            return self._commands[name]
        except KeyError:
            raise LookupError(f"this worker has no command {name!r}") from None

    def catalogue(self) -> tuple[CommandSpec, ...]:
        """Give every command as data."""
        specs = (one.spec for one in self._commands.values())
        return tuple(one for one in specs if not one.name.startswith("_"))

    def packed(self) -> Packed:
        """Give the catalogue as it is sent."""
        if self._packed is None:
            self._packed = pack(self.catalogue())
        return self._packed


def check_size(name: str, rows: int, cols: int) -> tuple[int, int]:
    """Check a terminal's size for a command.

    Raises:
        ValueError: If no terminal can have it.
    """
    if not (0 < rows <= MAX_CELLS and 0 < cols <= MAX_CELLS):
        raise ValueError(f"{name}(): a terminal can't have {rows} rows, {cols} columns")
    return rows, cols


@overload
def command(function: F, /) -> F: ...


@overload
def command(
    *,
    role: str = "run",
    blocks: bool = False,
    repeatable: bool = False,
    once: bool = False,
) -> Callable[[F], F]: ...


def command(
    function: Function | None = None,
    /,
    *,
    role: str = "run",
    blocks: bool = False,
    repeatable: bool = False,
    once: bool = False,
) -> Any:
    """Mark a function as a command of the worker: ``@command``, ``@command(...)``.

    Its name, docstring and signature are what clients see; arguments are checked
    against its annotations before it is called. A first parameter named ``ctx`` is
    the worker's :class:`Context`. It may be async.

    Args:
        function: The function.
        role: What a client's token must have for it: ``"view"``, ``"run"``,
            ``"sync"`` or ``"admin"``. Built-in ones that concern nothing but the
            client's own connection have ``"any"``.
        blocks: True to call it in a thread, so that it holds up nobody.
        repeatable: True if a request that is repeated over another link may call it
            again; else its answer is kept for that.
        once: True if it must not be called again for a request that a worker before
            this one may have had: it is LOST then, which is an error.
    """

    def mark(function: Function) -> Function:
        setattr(function, _MARK, Marks(role, blocks, repeatable, once))
        return function

    return mark if function is None else mark(function)


def is_command(thing: Any) -> bool:
    """Tell if something is a function that is marked as a command."""
    return hasattr(thing, _MARK)


def find_commands(module: Any) -> dict[str, Function]:
    """Give the functions of a module that are marked as commands, by name."""
    found = vars(module).items()
    return {name: one for name, one in found if hasattr(one, _MARK)}


def describe(name: str, function: Function) -> CommandSpec:
    """Make a command's signature and documentation into data."""
    signature = inspect.signature(function)
    parameters = tuple(
        Parameter(one.name, one.kind.name, _source(one.annotation), _default(one))
        for one in signature.parameters.values()
        if one.name != "ctx"
    )
    return CommandSpec(
        name,
        inspect.getdoc(function) or "",
        parameters,
        _source(signature.return_annotation),
        spawns=typing.get_type_hints(function).get("return") is Process,
        role=marks_of(function).role,
    )


def marks_of(function: Function) -> Marks:
    """Give what a command's decorator was given."""
    marks: Marks = getattr(function, _MARK, Marks())
    return marks


def _source(annotation: Any) -> str:
    if annotation is inspect.Parameter.empty:
        return ""
    return (
        annotation
        if isinstance(annotation, str)
        else inspect.formatannotation(annotation)
    )


def _default(parameter: inspect.Parameter) -> str | None:
    if parameter.default is inspect.Parameter.empty:
        return None
    return repr(parameter.default)


def _arguments_struct(
    name: str, parameters: Mapping[str, inspect.Parameter], *, hints: dict[str, Any]
) -> type[msgspec.Struct]:
    fields: list[Any] = []
    for one in parameters.values():
        if one.name == "ctx":
            continue
        kind = hints.get(one.name, Any)
        if one.default is inspect.Parameter.empty:
            fields.append((one.name, kind))
        else:
            fields.append((one.name, kind | msgspec.UnsetType, msgspec.UNSET))
    return msgspec.defstruct(name, fields, kw_only=True, forbid_unknown_fields=True)


def in_words(exc: msgspec.ValidationError) -> str:
    """Turn "Expected `str`, got `int` - at `$.env[...]`" round."""
    text, _, place = str(exc).partition(" - at ")
    where = place.strip("`").removeprefix("$.").removeprefix("$")
    text = text.replace("| null`", "| None`").replace("`null`", "`None`")
    text = text[:1].lower() + text[1:].replace("`", "")
    return f"{where}: {text}" if where else text
