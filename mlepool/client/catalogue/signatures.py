"""Signatures and docs as people read them in ``help()``."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["Source", "like", "own_signature", "plain", "readable", "shown"]

F = TypeVar("F", bound=Callable[..., Any])

_ROLE = re.compile(r":\w+:`~?(?:[\w.]+\.)?(\w+)`")


class Source:
    """Text that shows as it is in a signature."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def shown(source: str) -> Any:
    """Make a default value of its source text; it is only shown, never sent."""
    try:
        return ast.literal_eval(source)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return Source(source)


def plain(doc: str) -> str:
    """Give a docstring without the marks that only documentation tools know."""
    return _ROLE.sub(r"\1", doc)


def readable(function: F) -> F:
    """Have a function's signature show annotations as they are written."""
    function.__doc__ = plain(function.__doc__ or "")
    signature = inspect.signature(function)
    empty = inspect.Signature.empty
    parameters = [
        one if one.annotation is empty else one.replace(annotation=_source(one))
        for one in signature.parameters.values()
    ]
    function.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        parameters, return_annotation=Source(str(signature.return_annotation))
    )
    return function


def like(original: Callable[..., Any]) -> Callable[[F], F]:
    """Document a blocking method as the one that it calls.

    What its own docstring says after the first paragraph stands before the arguments.
    """

    def document(function: F) -> F:
        doc, own = inspect.getdoc(original) or "", inspect.getdoc(function) or ""
        about, mark, arguments = doc.partition("\n\nArgs:")
        more = own.partition("\n\n")[2]
        function.__doc__ = f"{about}\n\n{more}".rstrip() + f"{mark}{arguments}\n"
        return readable(function)

    return document


def own_signature(function: Callable[..., Any]) -> inspect.Signature:
    """Give a method's parameters without ``self``, and without what it returns."""
    signature = inspect.signature(function)
    return inspect.Signature(list(signature.parameters.values())[1:])


def _source(parameter: inspect.Parameter) -> Source:
    return Source(str(parameter.annotation))
