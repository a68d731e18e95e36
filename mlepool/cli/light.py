"""Typer commands that take words as they are.

Newer versions of typer load pydantic to find that a text is a text, and a path a path,
which takes a third of the processor time of a short ``mlepool run``. What needs more (a
number, a path that can't be read) still goes through typer, and so does everything in
versions that are unknown.

For the same reason modules of subcommands import no ``annotations`` from
``__future__``: typer would compile each of them four times.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from typer.core import TyperCommand, TyperGroup

__all__ = ["LightCommand", "LightGroup"]


class LightCommand(TyperCommand):
    """A command whose texts, lists of texts, paths and defaults typer need not see."""

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        _lighten(*self.params)

    def get_help_option(self, ctx: Any) -> Any:
        """Give the option ``--help``, which is not among the others."""
        return _lighten(super().get_help_option(ctx))


class LightGroup(TyperGroup):
    """A group of commands, as :class:`LightCommand`."""

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        _lighten(*self.params)

    def get_help_option(self, ctx: Any) -> Any:
        """Give the option ``--help``, which is not among the others."""
        return _lighten(super().get_help_option(ctx))


class _Words:
    """Turns what stands on the command line into one parameter's value."""

    def __init__(self, parameter: Any, described: Any) -> None:
        self._parameter = parameter
        self._kind = described.annotation
        self._has_rules = _has_rules(getattr(described, "parameter_info", None))
        self._is_list: bool = parameter.multiple or parameter.nargs == -1
        self._convert: Callable[[Any, Any], Any] = parameter.process_value

    def __call__(self, context: Any, value: Any) -> Any:
        if not self._is_plain(value):
            return self._convert(context, value)
        if self._is_list:
            value = list(value or ())
        elif self._kind is Path and value is not None:
            value = Path(value)
        callback = self._parameter.callback
        return value if callback is None else callback(context, self._parameter, value)

    def _is_plain(self, value: Any) -> bool:
        if value is None:
            return not self._parameter.required
        if self._is_list:
            return self._kind == list[str] and bool(value)
        if self._kind is Path:
            return not self._has_rules and _is_readable(value)
        # What is typed is text: a number is a default.
        return isinstance(value, int | float) or self._kind is str


def _has_rules(info: Any) -> bool:
    """Tell if a path has to be more than one that is readable, or is not there."""
    if info is None or info.path_type or not (info.file_okay and info.dir_okay):
        return True
    return bool(info.exists or info.writable or info.resolve_path or info.allow_dash)


def _is_readable(path: Any) -> bool:
    return os.access(path, os.R_OK) or not os.path.exists(path)


def _lighten(*parameters: Any) -> Any:
    """Replace what click calls for each value; gives the last parameter."""
    parameter = None
    for parameter in parameters:
        described = getattr(parameter, "type_descriptor", None)
        if described is not None and not isinstance(parameter.process_value, _Words):
            parameter.process_value = _Words(parameter, described)
    return parameter
