"""``mlepool audit``: what the audit log of a worker on this machine says."""

import json
import shlex
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from mlepool.cli.logs import read_since
from mlepool.config import default_state_dir
from mlepool.errors import WorkerError
from mlepool.worker.access.audit import AUDIT_FOLDER, EVENTS, read_audit

__all__ = ["audit"]

# What a line begins with, and what is left out of its rest.
FRONT = ("time", "event", "token", "address")


def audit(
    *,
    since: Annotated[
        str,
        typer.Option(
            help="What came since: 90s, 10m, 2h, 1d ago, or an ISO 8601 time.",
            show_default=False,
        ),
    ] = "",
    token: Annotated[
        str,
        typer.Option(
            help="Only of this token, by name or id; 'local' for this account.",
            show_default=False,
        ),
    ] = "",
    event: Annotated[
        str,
        typer.Option(help=f"Only this kind: {', '.join(EVENTS)}.", show_default=False),
    ] = "",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the lines as they are.")
    ] = False,
    state_dir: Annotated[
        Path | None,
        typer.Option(help="The worker's state folder.", show_default=False),
    ] = None,
) -> None:
    """Print a worker's audit log: who did what, and when."""
    if event and event not in EVENTS:
        cause = f"there is no {event!r}, but {', '.join(EVENTS)}"
        raise typer.BadParameter(cause, param_hint="--event")
    folder = state_dir if state_dir is not None else default_state_dir()
    begin = read_since(since)
    for line in _lines(folder.expanduser()):
        if event and line.get("event") != event:
            continue
        if token and token not in (line.get("token"), line.get("token_id")):
            continue
        if not begin or datetime.fromisoformat(line["time"]).timestamp() >= begin:
            print(json.dumps(line) if as_json else _sentence(line))


def _lines(folder: Path) -> Iterator[dict[str, Any]]:
    """Give the lines that are whole, and complain of the others at the end."""
    if not (folder / AUDIT_FOLDER).exists():
        raise WorkerError(f"there is no audit log in {folder}")
    damaged = 0
    for line in read_audit(folder):
        if line is None or "time" not in line:
            damaged += 1
        else:
            yield line
    if damaged:
        print(f"mlepool audit: {damaged} lines are damaged", file=sys.stderr)


def _sentence(line: dict[str, Any]) -> str:
    when = datetime.fromisoformat(line["time"]).astimezone()
    known = [str(line[key]) for key in ("token", "address") if key in line]
    who = f" [{' '.join(known)}]" if known else ""
    rest = {key: line[key] for key in line if key not in FRONT}
    facts = " ".join(f"{key}={_shown(value, key)}" for key, value in rest.items())
    text = f"{when.isoformat(' ', 'seconds')} {line['event']}{who} {facts}"
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def _shown(value: Any, key: str) -> str:
    if key == "expires" and isinstance(value, float | int):
        return datetime.fromtimestamp(value).astimezone().isoformat("T", "seconds")
    if isinstance(value, list):
        return f"[{shlex.join(map(str, value))}]"
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if " " in text else text
