"""``mlepool token``: who may come to a worker of this machine, and what for."""

import json
import os
import re
import socket
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from mlepool.cli.wording import complain
from mlepool.client.links.trust import Target, local_workers
from mlepool.client.tables import Table
from mlepool.config import DEFAULT_PORT, default_state_dir
from mlepool.errors import WorkerError
from mlepool.worker.access.audit import AuditLog
from mlepool.worker.access.grants import ROLES
from mlepool.worker.access.identity import find_identity, new_secret
from mlepool.worker.access.tokens import Token, TokenStore

__all__ = ["create", "revoke", "rotate", "show"]

UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}  # seconds
NO_ROTATION = 1 << 62  # bytes; the worker alone lets go of old parts of its log

HEADERS = ("name", "id", "roles", "limits", "created", "expires", "last used")

StateDir = Annotated[
    Path | None,
    typer.Option(help="The worker's state folder.", show_default=False),
]
Host = Annotated[
    str,
    typer.Option(
        help="HOST[:PORT] that clients shall dial; ws:// before it without TLS.",
        show_default=False,
    ),
]
Which = Annotated[str, typer.Argument(metavar="TOKEN", help="Its name or id.")]


def create(
    name: Annotated[str, typer.Option(help="What to call it.")],
    *,
    role: Annotated[
        list[str],
        typer.Option(metavar="ROLE[,ROLE...]", help=f"Of {', '.join(ROLES)}."),
    ],
    commands: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="Runs only what fits, e.g. 'python *'; repeatable.",
        ),
    ] = None,
    root: Annotated[
        list[str] | None,
        typer.Option(metavar="DIR", help="Only files in this folder; repeatable."),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="A note of yours; repeatable."),
    ] = None,
    expires: Annotated[
        str,
        typer.Option(help="After 90m, 12h, 30d or 4w, or at an ISO 8601 time."),
    ] = "never",
    host: Host = "",
    state_dir: StateDir = None,
) -> None:
    """Make a token, and print its join URL: a secret, shown once."""
    desk = _Desk(state_dir)
    roots = tuple(str(Path(one).expanduser().absolute()) for one in root or ())
    token = Token(
        name,
        new_secret(),
        tuple(dict.fromkeys(one for some in role for one in some.split(","))),
        tuple(commands or ()),
        roots,
        dict(map(_read_label, label or ())),
        created=time.time(),
        expires=_read_expiry(expires),
    )
    url = desk.join_url(token, host)
    desk.tokens.create(token)
    desk.note("create", token)
    for one in roots:
        if not os.path.isdir(one):
            complain(f"there is no folder {one} now: it opens nothing until there is")
    _print_url(url, f"made the token {name!r}; the join URL is a secret:")


def show(
    *,
    state_dir: StateDir = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON array of all facts.")
    ] = False,
) -> None:
    """List the tokens and what each is good for, without secrets."""
    tokens = _Desk(state_dir).tokens
    if as_json:
        facts = [_in_json(one, tokens.last_use(one)) for one in tokens.listing()]
        print(json.dumps(facts, indent=2))
        return
    rows = [
        (
            one.name,
            one.id,
            ", ".join(one.roles),
            _limits(one),
            _when(one.created),
            _when(one.expires),
            _when(tokens.last_use(one)),
        )
        for one in tokens.listing()
    ]
    print(Table(HEADERS, rows))


def revoke(which: Which, *, state_dir: StateDir = None) -> None:
    """Revoke a token: whoever has it is out within two seconds."""
    desk = _Desk(state_dir)
    token = desk.tokens.revoke(which)
    desk.note("revoke", token)
    print(f"revoked the token {token.name!r} ({token.id})")


def rotate(which: Which, *, host: Host = "", state_dir: StateDir = None) -> None:
    """Give a token another secret; the old one is good no more."""
    desk = _Desk(state_dir)
    desk.join_url(None, host)  # what is wrong with it is said before anything is done
    token = desk.tokens.rotate(which)
    desk.note("rotate", token)
    text = f"the token {token.name!r} has another secret; its join URL:"
    _print_url(desk.join_url(token, host), text)


class _Desk:
    """Where a worker's tokens are dealt with.

    Raises:
        WorkerError: If no worker has its state there, or it is another account's.
    """

    def __init__(self, state_dir: Path | None) -> None:
        folder = state_dir if state_dir is not None else default_state_dir()
        self._folder = folder.expanduser().absolute()
        self._identity = find_identity(self._folder)
        if self._folder.stat().st_uid != os.geteuid():
            # What we write there the worker could not read.
            raise WorkerError(f"{self._folder} belongs to another account: become that")
        self.tokens = TokenStore(self._folder)

    def join_url(self, token: Token | None, host: str) -> str:
        """Make the join URL of a token."""
        port = next(
            (one.port for one in local_workers() if one.state_dir == self._folder),
            DEFAULT_PORT,
        )
        place = Target.parse(host or socket.gethostname(), port)
        if place.scheme == "unix" or place.key:
            raise typer.BadParameter("give HOST or HOST:PORT", param_hint="--host")
        secret = token.secret if token is not None else ""
        url = self._identity.join_url(place.host, place.port, token=secret)
        return f"{url}&scheme=ws" if place.scheme == "ws" else url

    def note(self, action: str, token: Token) -> None:
        """Write it into the worker's audit log."""
        log = AuditLog(self._folder, size=NO_ROTATION)
        log.write(
            "token",
            token="local",
            address=f"pid {os.getpid()} of uid {os.getuid()}",
            action=action,
            name=token.name,
            id=token.id,
            roles=token.roles,
            commands=token.commands or None,
            roots=token.roots or None,
            expires=token.expires,
        )
        log.close()


def _print_url(url: str, text: str) -> None:
    """Print a URL alone to stdout: it can go on to ``mlepool trust -``."""
    print(text, file=sys.stderr)
    print(url)


def _in_json(token: Token, last_used: float | None) -> dict[str, Any]:
    return {
        "name": token.name,
        "id": token.id,
        "roles": token.roles,
        "commands": token.commands,
        "roots": token.roots,
        "labels": token.labels,
        "created": token.created,
        "expires": token.expires,
        "last_used": last_used,
    }


def _limits(token: Token) -> str:
    parts = [
        *(f"commands {one}" for one in token.commands),
        *(f"root {one}" for one in token.roots),
        *(f"{key}={value}" for key, value in token.labels.items()),
    ]
    return "; ".join(parts)


def _when(time_: float | None) -> str:
    if time_ is None:
        return "never"
    return datetime.fromtimestamp(time_).isoformat(" ", "minutes")


def _read_label(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not key or not separator:
        raise typer.BadParameter("give KEY=VALUE", param_hint="--label")
    return key, value


def _read_expiry(text: str) -> float | None:
    """Read a time to come: after so long, or ISO 8601, local where no zone is named."""
    if text == "never":
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([mhdw])", text)
    try:
        if match:
            expires = time.time() + float(match[1]) * UNITS[match[2]]
        else:
            expires = datetime.fromisoformat(text).timestamp()
        datetime.fromtimestamp(expires)
    except (ValueError, OverflowError, OSError):
        cause = "give 90m, 12h, 30d, 4w or an ISO 8601 time"
        raise typer.BadParameter(cause, param_hint="--expires") from None
    if expires <= time.time():
        raise typer.BadParameter("that is over already", param_hint="--expires")
    return expires
