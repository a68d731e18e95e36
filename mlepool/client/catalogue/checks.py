"""Arguments, as far as they can be judged here: what is seen to be wrong is not sent.

A worker checks all arguments against its functions' annotations. Of those it sends the
text, and what that says of plain types is the same here. Where there is any doubt the
worker decides: nothing is refused that it would take.
"""

from __future__ import annotations

import ast
import functools
import os
from collections.abc import Callable, Mapping
from typing import Any

from mlepool.wire.codec import sendable

__all__ = ["Check", "check_for"]

Check = Callable[[Any], Any]

# What a value is, without any doubt, and goes over the wire as. Others than these
# (a path, an enum, a subclass) may become one of them on the way.
_PLAIN = (bool, int, float, str, bytes, bytearray, type(None), list, tuple, dict)
_PLAIN_TYPES = frozenset({*_PLAIN, set, frozenset})
_ARRAYS = (list, tuple, set, frozenset)

# By an annotation, the plain types that a worker takes for it.
_TAKEN: dict[str, tuple[type, ...]] = {
    "bool": (bool,),
    "int": (int,),
    "float": (float, int),
    "str": (str,),
    "None": (type(None),),
    "list": _ARRAYS,
    "dict": (dict,),
}

# Says what is wrong with a value; empty if that is not known.
_Judge = Callable[[Any], str]


@functools.lru_cache(maxsize=1024)
def check_for(annotation: str, *, spawns: bool = False) -> Check:
    """Make what checks a value, and copies it if it can change.

    The request may be repeated after the caller has changed what was given.

    Args:
        annotation: A parameter's, as source text.
        spawns: True if the command starts a process.

    Returns:
        A function that gives the value to send. It raises TypeError with what comes
        after the argument's name in a sentence.
    """
    if spawns and annotation in _SPECIAL:
        return _SPECIAL[annotation]
    judge = _judge_of(annotation)
    if judge is None:
        return _copied

    def check(value: Any) -> Any:
        problem = judge(value)
        if problem:
            raise TypeError(problem)
        return _copied(value)

    return check


def _copied(value: Any) -> Any:
    kind = type(value)
    if kind is str:
        return sendable(value)
    if kind in (list, tuple):
        return [_copied(one) for one in value]
    if kind is dict:
        return {name: _copied(one) for name, one in value.items()}
    return set(value) if kind is set else value


def _judge_of(annotation: str) -> _Judge | None:
    try:
        node = ast.parse(annotation, mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None
    return _judge(node)


def _judge(node: ast.expr) -> _Judge | None:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _any_of(node, [node.left, node.right])
    if isinstance(node, ast.Subscript):
        return _of_parts(node)
    name = ast.unparse(node)
    return _plain(_TAKEN[name], name) if name in _TAKEN else None


def _of_parts(node: ast.Subscript) -> _Judge | None:
    """Judge by ``list[...]``, ``Literal[...]`` and the like."""
    outer = ast.unparse(node.value).rpartition(".")[2]
    inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    if outer == "Optional":
        return _any_of(node, [*inner, ast.Constant(None)])
    if outer == "Union":
        return _any_of(node, inner)
    if outer == "Literal":
        return _literal(node, inner)
    if outer == "list" and len(inner) == 1:
        return _list_of(ast.unparse(node), _judge(inner[0]))
    return _plain((dict,), ast.unparse(node)) if outer == "dict" else None


def _plain(taken: tuple[type, ...], text: str) -> _Judge:
    refused = _PLAIN_TYPES.difference(taken)

    def judge(value: Any) -> str:
        return _mismatch(text, value) if type(value) in refused else ""

    return judge


def _list_of(text: str, part: _Judge | None) -> _Judge:
    whole = _plain(_ARRAYS, text)

    def judge(value: Any) -> str:
        problem = whole(value)
        if problem or part is None or type(value) not in _ARRAYS:
            return problem
        for number, one in enumerate(value):
            problem = part(one)
            if problem:
                return f"[{number}]{problem}"
        return ""

    return judge


def _literal(node: ast.Subscript, values: list[ast.expr]) -> _Judge | None:
    if not all(isinstance(one, ast.Constant) for one in values):
        return None
    constants = [one.value for one in values if isinstance(one, ast.Constant)]
    allowed = {(type(one), one) for one in constants}
    names = ", ".join(repr(one) for one in constants)

    def judge(value: Any) -> str:
        if type(value) not in _PLAIN_TYPES:
            return ""
        hashable = isinstance(value, str | bytes | int | float | None)
        if hashable and (type(value), value) in allowed:
            return ""
        return f": expected one of {names}, got {value!r:.80}"

    return judge


def _any_of(node: ast.expr, parts: list[ast.expr]) -> _Judge | None:
    judges = [_judge(one) for one in parts]
    known = [one for one in judges if one is not None]
    if len(known) < len(judges):
        return None  # who knows what the others take
    text = ast.unparse(node)

    def judge(value: Any) -> str:
        problems = [one(value) for one in known]
        if not all(problems):
            return ""
        within = (one for one in problems if not one.startswith(": expected"))
        return next(within, _mismatch(text, value))

    return judge


def _mismatch(text: str, value: Any) -> str:
    kind = "None" if value is None else type(value).__name__
    return f": expected {text}, got {kind}"


def _check_argv(value: Any) -> str | list[Any]:
    if isinstance(value, str):
        return value
    if not isinstance(value, list | tuple):
        kind = type(value).__name__
        raise TypeError(f" must be a str or a list of str, not {kind}")
    for one in value:
        if not isinstance(one, str | bytes | os.PathLike):
            raise TypeError(f": an argument must be str or bytes, not {one!r}")
    return [sendable(one) if isinstance(one, str) else one for one in value]


def _check_texts(value: Any) -> dict[str, Any] | None:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise TypeError(f" must be a dict, not {type(value).__name__}")
    for name, one in value.items():
        if not isinstance(name, str) or not isinstance(one, str | os.PathLike):
            kind = type(one).__name__  # not the value itself: it may be a secret
            raise TypeError(f": names and values must be str, not {name!r}: {kind}")
    return dict(value)


# Of commands that start a process: what annotations do not say as plainly.
_SPECIAL: dict[str, Check] = {
    "str | list[Any]": _check_argv,
    "dict[str, str] | None": _check_texts,
}
