"""What ``map`` was asked for: keywords in, the head of a plan out."""

from __future__ import annotations

import difflib
import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from mlepool.client.connection import AsyncConnection
from mlepool.client.listening.listener import AsyncListener
from mlepool.client.sweeps.grid import read_axis, read_rows
from mlepool.client.sweeps.plan import RUN_FIELD, Plan
from mlepool.client.sweeps.records import Head
from mlepool.client.sweeps.template import Pattern, Template

__all__ = ["OPTIONS", "Runs", "make_head"]

MEMORY = 1024 * 1024  # bytes of a run's output that are held here while it runs

# What each run may be called with. What needs the client while it runs is not here.
_OF_RUNS: dict[str, Any] = {
    "cwd": str,
    "env": dict[str, str],
    "gpus": int,
    "priority": int,
    "orphan_timeout": float | None,
    "collect": str | list[str],
}
_OF_SWEEPS = (
    *("timeout", "sync", "collect_to", "where", "slots", "retries", "retries_lost"),
    *("lost_timeout", "fail_fast", "max_failures"),
)
OPTIONS = (*_OF_RUNS, *_OF_SWEEPS)
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
    others = {name: one for name, one in keywords.items() if name not in OPTIONS}
    for name, values in others.items():
        _check_axis(name, values, template)
    found = {
        name: read_axis(name, one) for name, one in {**others, **(axes or {})}.items()
    }
    given = None if rows is None else read_rows(rows)
    names = {*found, *(given[0] if given else ())}
    fields = {*template.fields, *_fields_of(options)} - {RUN_FIELD}
    for name in template.fields:
        if name in OPTIONS and name not in names and name in options:
            found[name] = read_axis(name, options[name])
            names.add(name)
    missing = sorted(fields - names)
    if missing:
        raise ValueError(
            f"there are no values for {{{missing[0]}}}: give {missing[0]}="
        )
    return _head(sweep_id, template, options, axes=found, rows=given)


def _check_axis(name: str, values: Any, template: Template) -> None:
    """See that a keyword is meant as an axis, and is no option that is mistyped.

    Raises:
        TypeError: If it is not.
    """
    is_several = isinstance(values, Iterable) and not isinstance(values, str | Mapping)
    if name in template.fields or (is_several and not isinstance(values, bytes)):
        return
    near = difflib.get_close_matches(name, OPTIONS, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise TypeError(f"{name!r} is no option, nor a field of the command{hint}")


def _fields_of(options: Mapping[str, Any]) -> set[str]:
    texts = [options.get("cwd"), options.get("collect_to")]
    texts += list((options.get("env") or {}).values())
    patterns = [Pattern(_path(one)) for one in texts if one is not None]
    return {name for one in patterns for name in one.fields}


def _head(
    sweep_id: str,
    template: Template,
    options: dict[str, Any],
    *,
    axes: dict[str, list[Any]],
    rows: list[dict[str, Any]] | None,
) -> Head:
    run = {
        name: _convert(name, _path(options[name]), kind)
        for name, kind in _OF_RUNS.items()
        if options.get(name) is not None
    }
    places = {name: _path(options.get(name) or "") for name in ("collect_to", "where")}
    if run.get("collect") and not places["collect_to"]:
        places["collect_to"] = f"sweep-{sweep_id}/{{{RUN_FIELD}}}"
    if places["collect_to"]:
        # Whoever goes on with the plan may stand somewhere else.
        places["collect_to"] = os.path.abspath(os.path.expanduser(places["collect_to"]))
    sync = _sync_order(options.get("sync"), run)
    numbers: dict[str, Any] = {
        name: options[name]
        for name in ("slots", "retries", "retries_lost", "lost_timeout")
        if options.get(name) is not None
    }
    head = Head(
        sweep_id,
        template.command,
        made=time.time(),
        axes=axes,
        rows=rows,
        run=run,
        limit=_convert("timeout", options.get("timeout"), float | None),
        sync=sync,
        max_failures=_max_failures(options),
        collect_to=places["collect_to"],
        where=places["where"],
        **numbers,
    )
    _check_numbers(head)
    return head


def _check_numbers(head: Head) -> None:
    for name in ("slots", "retries", "retries_lost", "lost_timeout", "limit"):
        kind = next(
            one.type for one in msgspec.structs.fields(Head) if one.name == name
        )
        value = _convert(name, getattr(head, name), kind)
        numbers = value.values() if isinstance(value, dict) else (value,)
        if any(one is not None and not one >= 0 for one in numbers):
            raise ValueError(f"{name} can't be {value}")


def _max_failures(options: dict[str, Any]) -> int | str | None:
    limit = options.get("max_failures")
    if options.get("fail_fast"):
        limit = 0
    is_text = isinstance(limit, str)
    if is_text and not _PERCENT.fullmatch(limit):  # type: ignore[arg-type]
        raise ValueError(f"max_failures is a number or a text as '20%', not {limit!r}")
    if not is_text:
        _convert("max_failures", limit, int | None)
    return limit


def _sync_order(sync: Any, run: dict[str, Any]) -> dict[str, Any] | None:
    """Read ``sync=`` as of ``run``: the folder, or arguments of ``sync``."""
    if sync is None:
        return None
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
    run.setdefault("cwd", order["destination"])
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


class Runs:
    """Starts the runs of a plan, each with its own parameters.

    Args:
        plan: The plan.
    """

    def __init__(self, plan: Plan) -> None:
        head = plan.head
        self._plan = plan
        self._limit = head.limit
        self._fixed = {
            **{
                name: one
                for name, one in head.run.items()
                if name not in ("cwd", "env")
            },
            # The plan knows what runs, so nothing ends with a connection.
            **{"detach": True, "memory": MEMORY, "encoding": "utf-8"},
        }
        self._cwd = Pattern(head.run["cwd"]) if "cwd" in head.run else None
        env = head.run.get("env", {})
        self._env = {name: Pattern(text) for name, text in env.items()}
        self._to = Pattern(head.collect_to) if head.run.get("collect") else None

    def begin(
        self, connection: AsyncConnection, number: int, age: float
    ) -> AsyncListener:
        """Start a run's present attempt on a worker, or join it."""
        plan = self._plan
        values = plan.values(number)
        command = plan.template.fill(values)
        job_id = plan.job_id(number, plan.run(number).attempt)
        listener = connection.begin_planned(
            (command,),
            self._keywords(values, connection.name),
            job_id=job_id,
            limit=self._limit,
            age=age,
        )
        listener.points  # noqa: B018 - from now on they are looked for
        return listener

    def _keywords(self, values: dict[str, Any], host: str) -> dict[str, Any]:
        keywords = dict(self._fixed)
        if self._cwd is not None:
            keywords["cwd"] = self._cwd.fill(values)
        if self._env:
            keywords["env"] = {
                name: one.fill(values) for name, one in self._env.items()
            }
        if self._to is not None:
            keywords["collect_to"] = self._to.fill(values)
        digest = self._plan.synced.get(host)
        if digest:
            keywords["tree"] = digest
        return keywords
