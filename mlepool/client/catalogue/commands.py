"""From the worker's catalogue to methods: lookup, signature, docs, nearest name."""

from __future__ import annotations

import difflib
import functools
import inspect
import keyword
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mlepool.client.catalogue.checks import check_for
from mlepool.client.catalogue.signatures import Source, plain, shown
from mlepool.client.options import (
    CLIENT_PARAMETERS,
    OF_EVERY_CALL,
    CallOptions,
    Kind,
    option_docs,
    split_options,
)
from mlepool.errors import RemoteProtocolError
from mlepool.wire.messages import CommandSpec, Parameter

__all__ = ["BoundCommand", "Catalogue", "bound"]


_KEYWORD_ONLY = inspect.Parameter.KEYWORD_ONLY

# Names in the built-in commands' annotations that no client knows.
_ALIASES = {
    "Data": "str | bytes",
    "FileData": "str | bytes",
    "FilePath": "str | bytes | os.PathLike",
}


class BoundCommand:
    """What a call of one command needs to know, without a round trip.

    Attributes:
        spec: As the worker sent it.
        kind: What it is to this side.
        signature: The worker's parameters, and the client's keywords after them.
    """

    def __init__(self, spec: CommandSpec) -> None:
        self.spec = spec
        self.kind = _kind_of(spec)
        aliases = {} if spec.streams else _ALIASES
        own = [_parameter(one, aliases) for one in spec.parameters]
        taken = {one.name for one in own}
        ours = [one for one in CLIENT_PARAMETERS[self.kind] if one.name not in taken]
        self.signature = inspect.Signature(
            sorted([*own, *ours], key=lambda one: one.kind),
            return_annotation=Source("Listener"),
        )
        self._ours = [one.name for one in ours]
        self._names = {*taken, *self._ours}
        self._positional = [one.name for one in own if one.kind is not _KEYWORD_ONLY]
        self._required = {one.name for one in own if one.default is one.empty}
        # A command's own parameters come before this side's, but for those of every
        # call: these mean the same wherever they are given.
        self._checks = {
            one.name: check_for(one.annotation, spawns=spec.spawns)
            for one in spec.parameters
            if one.name not in OF_EVERY_CALL
        }

    @functools.cached_property
    def own_signature(self) -> inspect.Signature:
        """The worker's parameters alone."""
        parameters = self.signature.parameters.values()
        own = [one for one in parameters if one.name not in self._ours]
        return inspect.Signature(own)

    @functools.cached_property
    def async_signature(self) -> inspect.Signature:
        """The same for the asyncio face."""
        return self.signature.replace(return_annotation=Source("AsyncListener"))

    @functools.cached_property
    def doc(self) -> str:
        """The worker's docstring, and what the client's keywords mean."""
        ours = option_docs(self._ours, kind=self.kind)
        return f"{plain(self.spec.doc)}\n\n{ours}\n".lstrip()

    @property
    def summary(self) -> str:
        """The first line of the docstring."""
        return self.spec.doc.partition("\n")[0]

    def bind(
        self, args: tuple[Any, ...], keywords: dict[str, Any]
    ) -> tuple[CallOptions, dict[str, Any]]:
        """Check a call against the signature, and arguments as far as can be seen.

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
        arguments, ours = {}, {}
        for name, value in named.items():
            check = self._checks.get(name)
            if check is None:
                ours[name] = value
                continue
            try:
                arguments[name] = check(value)
            except TypeError as exc:
                raise TypeError(f"{self.spec.name}(): {name}{exc}") from None
        options, _ = split_options(ours, kind=self.kind)
        return options, arguments


class Catalogue:
    """The commands of one worker; those of a capability have a dot in their names.

    Args:
        worker: Its connection's name, for errors.
        commands: What it offers, by name; shared with others that offer the same.

    Attributes:
        worker: As given.
        offers: What was made of it for attributes of a connection, by name: each is
            asked for again and again.
    """

    def __init__(self, worker: str, commands: Mapping[str, BoundCommand]) -> None:
        self.worker = worker
        self.offers: dict[tuple[str, bool], Any] = {}
        self._commands = commands

    def __iter__(self) -> Iterator[BoundCommand]:
        return iter(self._commands.values())

    def names(self) -> list[str]:
        """Give the names of all commands."""
        return sorted(self._commands)

    def within(self, prefix: str) -> list[str]:
        """Give the names right below a capability; of all, for an empty one."""
        start = f"{prefix}." if prefix else ""
        names = (one for one in self._commands if one.startswith(start))
        return sorted({one[len(start) :].partition(".")[0] for one in names})

    def get(self, name: str) -> BoundCommand | None:
        """Find a command; None if there is none."""
        return self._commands.get(name)

    def find(self, name: str) -> BoundCommand:
        """Find a command.

        Raises:
            AttributeError: If there is none; names the worker and the nearest one.
        """
        command = self._commands.get(name)
        if command is not None:
            return command
        near = difflib.get_close_matches(name, [*self._commands, *self.within("")], 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise AttributeError(
            f"the worker {self.worker} has no command {name!r}{hint}", name=name
        )


def bound(specs: Iterable[CommandSpec]) -> dict[str, BoundCommand]:
    """Make what calls need to know of a worker's commands, by name.

    Raises:
        RemoteProtocolError: If a signature can't be one.
    """
    usable = [spec for spec in specs if _is_usable(spec.name)]
    try:
        return {spec.name: _bound(spec) for spec in usable}
    except (ValueError, TypeError) as exc:
        raise RemoteProtocolError(f"a command's signature is wrong: {exc}") from exc


# Catalogues that differ have most of their commands in common.
_bound = functools.lru_cache(maxsize=512)(BoundCommand)


def _kind_of(spec: CommandSpec) -> Kind:
    if spec.spawns:
        return Kind.PROCESS
    return Kind.JOB if spec.streams else Kind.VALUE


def _is_usable(name: str) -> bool:
    """Tell if a command's name can be written in Python."""
    parts = name.split(".")
    return all(one.isidentifier() and not keyword.iskeyword(one) for one in parts)


def _parameter(parameter: Parameter, aliases: dict[str, str]) -> inspect.Parameter:
    positional = parameter.kind == "POSITIONAL_OR_KEYWORD"
    empty = inspect.Parameter.empty
    annotation = aliases.get(parameter.annotation, parameter.annotation)
    return inspect.Parameter(
        parameter.name,
        inspect.Parameter.POSITIONAL_OR_KEYWORD if positional else _KEYWORD_ONLY,
        default=empty if parameter.default is None else shown(parameter.default),
        annotation=Source(annotation) if annotation else empty,
    )
