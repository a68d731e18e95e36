"""What ``map`` was asked for: keywords in, the head of a plan out."""

from __future__ import annotations

import difflib
import os
import re
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from mlepool.client.sweeps.grid import read_axis, read_rows
from mlepool.client.sweeps.plan import RUN_FIELD
from mlepool.client.sweeps.records import Head
from mlepool.client.sweeps.template import Filling, Pattern, Template

__all__ = ["OPTIONS", "make_head"]

# What each run may be called with. What needs the client while it runs is not here.
_OF_RUNS: dict[str, Any] = {
    "cwd": str,
    "env": dict[str, str],
    "gpus": int,
    "priority": int,
    "orphan_timeout": float,
    "collect": str | list[str],
}
# Those of the sweep: their names in a head, and their types.
_OF_HEADS: dict[str, tuple[str, Any]] = {
    "timeout": ("limit", float),
    "collect_to": ("collect_to", str),
    "where": ("where", str),
    "slots": ("slots", int | dict[str, int]),
    "retries": ("retries", int),
    "retries_lost": ("retries_lost", int),
    "lost_timeout": ("lost_timeout", float),
}
OPTIONS = (*_OF_RUNS, *_OF_HEADS, "sync", "fail_fast", "max_failures")
_PERCENT = re.compile(r"\d+(\.\d+)?%")


def make_head(
    sweep_id: str,
    command: str | Sequence[Any],
    keywords: Mapping[str, Any],
    *,
    axes: Mapping[str, Any] | None,
    rows: Iterable[Mapping[str, Any]] | None,
) -> Head:
    """Read what ``map`` was given.

    Args:
        sweep_id: The new sweep's.
        command: With fields.
        keywords: Options, and axes: what is no option.
        axes: Further axes, which may have any name.
        rows: Combinations that are given one by one.

    Raises:
        TypeError: For a keyword that makes no sense, or a value of a wrong type.
        ValueError: For a value that can't be, or a field without values.
    """
    template = Template(command)
    options = {name: one for name, one in keywords.items() if name in OPTIONS}
    found = {name: one for name, one in keywords.items() if name not in OPTIONS}
    read = _read_options(sweep_id, options)
    fields = _fields_of(template, read)
    for name in found:
        _check_axis(name, fields)
    # An option that is a field, too, fills it: ``train --gpus {gpus}``.
    found |= {name: options[name] for name in template.fields if name in options}
    found |= axes or {}
    head = Head(
        sweep_id,
        template.command,
        made=time.time(),
        axes={name: read_axis(name, values) for name, values in found.items()},
        rows=None if rows is None else read_rows(rows),
        **read,
    )
    _check_fields(head, fields)
    return head


def _fields_of(template: Template, read: Mapping[str, Any]) -> dict[str, None]:
    """Give the fields of a command and its options, in order."""
    found = (*template.fields, *Filling(read["run"]).fields)
    more = Pattern(read.get("collect_to", "")).fields
    return dict.fromkeys((*found, *more))


def _check_axis(name: str, fields: Collection[str]) -> None:
    """See that a keyword is meant as an axis, and is no option that is mistyped.

    Raises:
        TypeError: If it is not.
    """
    if name in fields:
        return
    near = difflib.get_close_matches(name, (*OPTIONS, *fields), 1)
    hint = f"did you mean {near[0]!r}?" if near else f"axes={{{name!r}: ...}} has any"
    raise TypeError(f"{name!r} is no option, nor a field of the command; {hint}")


def _check_fields(head: Head, fields: Collection[str]) -> None:
    """See that each field has values.

    Raises:
        ValueError: If one has none.
    """
    rows = head.rows or [{}]
    missing = sorted(set(fields) - head.axes.keys() - rows[0].keys() - {RUN_FIELD})
    if missing:
        name = missing[0]
        raise ValueError(f"there are no values for {{{name}}}: give {name}=")


def _read_options(sweep_id: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Read the options as a head has them; those that are None are as if not given.

    Raises:
        TypeError: If one has a wrong type.
        ValueError: If one can't be.
    """
    given = {name: _path(one) for name, one in options.items() if one is not None}
    run = {
        name: _convert(name, given[name], kind)
        for name, kind in _OF_RUNS.items()
        if name in given
    }
    found: dict[str, Any] = {"run": run, "max_failures": _max_failures(given)}
    for name, (field, kind) in _OF_HEADS.items():
        if name in given:
            found[field] = _convert(name, given[name], kind)
            _check_number(name, found[field])
    if run.get("collect"):
        to = found.get("collect_to") or f"sweep-{sweep_id}/{{{RUN_FIELD}}}"
        # Whoever goes on with the plan may stand somewhere else.
        found["collect_to"] = os.path.abspath(os.path.expanduser(to))
    elif "collect_to" in given:
        raise TypeError("collect_to has no use without collect")
    if "sync" in given:
        found["sync"] = _sync_order(given["sync"])
        run.setdefault("cwd", found["sync"]["destination"])
    return found


def _check_number(name: str, value: Any) -> None:
    numbers = value.values() if isinstance(value, dict) else (value,)
    if any(isinstance(one, int | float) and not one >= 0 for one in numbers):
        raise ValueError(f"{name} can't be {value}")


def _max_failures(options: Mapping[str, Any]) -> int | str | None:
    limit = options.get("max_failures")
    if options.get("fail_fast"):
        limit = 0
    is_text = isinstance(limit, str)
    if is_text and not _PERCENT.fullmatch(limit):  # type: ignore[arg-type]
        raise ValueError(f"max_failures is a number or a text as '20%', not {limit!r}")
    if not is_text:
        _convert("max_failures", limit, int | None)
    return limit


def _sync_order(sync: Any) -> dict[str, Any]:
    """Read ``sync=`` as of ``run``: the folder, or arguments of ``sync``."""
    if isinstance(sync, Mapping):
        order = {name: _path(one) for name, one in sync.items()}
    elif isinstance(sync, tuple) and len(sync) == 2:
        order = dict(zip(("source", "destination"), map(_path, sync), strict=True))
    else:
        order = {"source": _path(sync)}
    source = Path(order["source"]).expanduser().absolute()
    if not source.is_dir():
        raise ValueError(f"sync: there is no folder {source}")
    order["source"] = str(source)
    order.setdefault("destination", source.name)
    return order


def _path(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _convert(name: str, value: Any, kind: Any) -> Any:
    if isinstance(value, tuple):
        value = list(value)
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as exc:
        raise TypeError(f"{name}: {exc}") from None
