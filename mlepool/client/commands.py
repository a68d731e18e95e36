"""From the worker's catalogue to methods: lookup, signature, docs, nearest name."""

from __future__ import annotations

import ast
import difflib
import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mlepool.client.options import CLIENT_PARAMETERS, CallOptions, split_options
from mlepool.errors import RemoteProtocolError
from mlepool.wire.messages import CommandSpec, Parameter

__all__ = ["BoundCommand", "Catalogue"]


_KEYWORD_ONLY = inspect.Parameter.KEYWORD_ONLY


class _Source:
    """Text that shows as it is in a signature."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


class BoundCommand:
    """What a call of one command needs to know, without a round trip.

    Attributes:
        spec: As the worker sent it.
        signature: The worker's parameters, and the client's keywords after them.
    """

    def __init__(self, spec: CommandSpec) -> None:
        self.spec = spec
        own = [_parameter(one) for one in spec.parameters]
        taken = {one.name for one in own}
        ours = [one for one in CLIENT_PARAMETERS[spec.spawns] if one.name not in taken]
        self.signature = inspect.Signature(
            sorted([*own, *ours], key=lambda one: one.kind),
            return_annotation=_Source("Listener"),
        )
        parameters = self.signature.parameters.values()
        self._names = {one.name for one in parameters}
        self._positional = [one.name for one in own if one.kind is not _KEYWORD_ONLY]
        self._required = {one.name for one in own if one.default is one.empty}
        self._checks = [
            (one.name, _CHECKS[one.annotation])
            for one in spec.parameters
            if one.annotation in _CHECKS
        ]

    def bind(
        self, args: tuple[Any, ...], keywords: dict[str, Any]
    ) -> tuple[CallOptions, dict[str, Any]]:
        """Check a call against the signature.

        Returns:
            The client's options, and the arguments for the worker, by name.

        Raises:
            TypeError: For arguments that don't fit, as for a local function.
        """
        named = dict(zip(self._positional, args, strict=False))
        fits = len(args) == len(named) and self._names >= keywords.keys()
        named.update(keywords)
        # Signature.bind() is slow: it only has to find out what is wrong.
        if (
            not fits
            or len(named) < len(args) + len(keywords)
            or self._required - named.keys()
        ):
            try:
                self.signature.bind(*args, **keywords)
            except TypeError as exc:
                raise TypeError(f"{self.spec.name}(): {exc}") from None
        options, arguments = split_options(named, spawns=self.spec.spawns)
        for name, check in self._checks:
            if name in arguments:
                arguments[name] = check(f"{self.spec.name}(): {name}", arguments[name])
        return options, arguments


class Catalogue:
    """The commands of one worker.

    Args:
        worker: Its connection's name, for errors.
        specs: As the worker sent them.

    Raises:
        RemoteProtocolError: If a signature can't be one.
    """

    def __init__(self, worker: str, specs: tuple[CommandSpec, ...]) -> None:
        self._worker = worker
        usable = [spec for spec in specs if spec.name.isidentifier()]
        try:
            self._commands = {spec.name: BoundCommand(spec) for spec in usable}
        except (ValueError, TypeError) as exc:
            raise RemoteProtocolError(f"a command's signature is wrong: {exc}") from exc

    def __iter__(self) -> Iterator[BoundCommand]:
        return iter(self._commands.values())

    def names(self) -> list[str]:
        """Give the names of all commands."""
        return sorted(self._commands)

    def find(self, name: str) -> BoundCommand:
        """Find a command.

        Raises:
            AttributeError: If there is none; names the worker and the nearest one.
        """
        command = self._commands.get(name)
        if command is not None:
            return command
        near = difflib.get_close_matches(name, self._commands, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise AttributeError(
            f"the worker {self._worker} has no command {name!r}{hint}", name=name
        )


def _parameter(parameter: Parameter) -> inspect.Parameter:
    positional = parameter.kind == "POSITIONAL_OR_KEYWORD"
    empty = inspect.Parameter.empty
    return inspect.Parameter(
        parameter.name,
        inspect.Parameter.POSITIONAL_OR_KEYWORD if positional else _KEYWORD_ONLY,
        default=empty if parameter.default is None else _shown(parameter.default),
        annotation=_Source(parameter.annotation) if parameter.annotation else empty,
    )


def _shown(source: str) -> Any:
    """Make a default value of its source text; it is only shown, never sent."""
    try:
        return ast.literal_eval(source)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return _Source(source)


def _check_argv(what: str, value: Any) -> str | list[Any]:
    if isinstance(value, str):
        return value
    if not isinstance(value, list | tuple):
        kind = type(value).__name__
        raise TypeError(f"{what} must be a str or a list of str, not {kind}")
    for one in value:
        if not isinstance(one, str | bytes | os.PathLike):
            raise TypeError(f"{what}: an argument must be str or bytes, not {one!r}")
    return list(value)


def _check_texts(what: str, value: Any) -> dict[str, Any] | None:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise TypeError(f"{what} must be a dict, not {type(value).__name__}")
    for name, one in value.items():
        if not isinstance(name, str) or not isinstance(one, str | os.PathLike):
            kind = type(one).__name__  # not the value itself: it may be a secret
            raise TypeError(
                f"{what}: names and values must be str, not {name!r}: {kind}"
            )
    return dict(value)


# By the worker's annotation: what is seen here need not be sent to be refused. What is
# given is copied, too: the request may be repeated after the caller has changed it.
_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "str | list[Any]": _check_argv,
    "dict[str, str] | None": _check_texts,
}
