"""``mlepool hosts``: which hosts this account knows, and whether they answer."""

import asyncio
import importlib
import json
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from mlepool.cli.choosing import Choice, Hosts, Labels
from mlepool.cli.places import Place, known_places, spelled
from mlepool.cli.wording import complain, visible
from mlepool.client.connection import AsyncConnection
from mlepool.client.links.trust import THIS_MACHINE, Target, TrustStore, local_workers
from mlepool.client.tables import Table
from mlepool.config import write_private
from mlepool.errors import ClientError, ConfigError

__all__ = ["hosts"]

ANSWER_LIMIT = 3.0  # seconds that a worker has to answer
MAX_DIALS = 100  # connections opened at once: more only wait for each other
KEY_SHOWN = 12  # characters

HEADERS = ("host", "address", "groups", "labels", "key", "known", "state")
NOT_CHECKED = "not checked"


def hosts(
    hosts: Hosts = None,
    *,
    selector: Labels = "",
    check: Annotated[
        bool, typer.Option(help="Connect to each and say if it answers.")
    ] = True,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON array of all facts.")
    ] = False,
    imported: Annotated[
        str,
        typer.Option(
            "--import",
            metavar="FILE",
            help="Print the hosts.toml that an ssh configuration or an inventory of "
            "Ansible's (INI, YAML) comes to; look at it before you use it.",
        ),
    ] = "",
    output: Annotated[
        str,
        typer.Option("-o", "--output", metavar="FILE", help="Write that to a file."),
    ] = "",
    force: Annotated[
        bool, typer.Option("--force", help="Also if that file is there.")
    ] = False,
) -> None:
    """Show the hosts that this account knows.

    Those of its inventory, those that it trusts, and its own workers on this machine,
    with what each answers.
    """
    if imported:
        _import(Path(imported).expanduser(), output, force=force)
        return
    if output or force:
        raise typer.BadParameter("it is for --import", param_hint="--output, --force")
    choice = Choice.of(hosts, selector)
    listed = choice.places() if hosts else known_places()
    rows = _rows(listed)
    found = asyncio.run(_ask(rows, check=check))
    if (reader := choice.reader()) is not None:
        found = [one for one in found if reader.matches(one.row.listed, one.state)]
    if as_json:
        print(json.dumps([one.in_json() for one in found], indent=2))
    elif found:
        print(Table(HEADERS, [one.cells() for one in found]))
    else:
        print("no worker is known; see 'mlepool trust'" if not rows else "no host fits")


class _Row(NamedTuple):
    """A host, and how it is known.

    Attributes:
        name: Its name here.
        address: Where it is, for people.
        key: The key that was trusted there; empty if none was.
        known: ``trusted``, ``local``, or ``listed`` only.
        groups: Its groups in the inventory.
        listed: Its labels in the inventory.
        place: How it is reached.
    """

    name: str
    address: str
    key: str
    known: str
    groups: tuple[str, ...]
    listed: dict[str, str]
    place: Place


class _Answer(NamedTuple):
    """A host, and what its worker says.

    Attributes:
        row: The host.
        up: True if it answers; None if it was not asked.
        state: What it tells of itself.
        cause: Why it does not answer.
    """

    row: _Row
    up: bool | None = None
    state: dict[str, Any] = {}
    cause: str = ""

    def labels(self) -> dict[str, str]:
        """Give its labels: those of the inventory stand above its own."""
        return {**self.state.get("labels", {}), **self.row.listed}

    def cells(self) -> tuple[str, ...]:
        row = self.row
        labels = ",".join(f"{key}={value}" for key, value in self.labels().items())
        shown = [row.name, row.address, ",".join(row.groups), labels]
        shown += [row.key[:KEY_SHOWN], row.known, self._summary()]
        return tuple(map(visible, shown))

    def in_json(self) -> dict[str, Any]:
        return {
            "host": self.row.name,
            "address": self.row.address,
            "groups": list(self.row.groups),
            "labels": self.labels(),
            "key": self.row.key or None,
            "known": self.row.known,
            "up": self.up,
            "cause": self.cause or None,
            "name": self.state.get("name"),
            "version": self.state.get("version"),
        }

    def _summary(self) -> str:
        if self.up is None:
            return NOT_CHECKED
        if not self.up:
            return f"down ({self.cause})"
        return f"up ({self.state['name']}, mlepool {self.state['version']})"


def _rows(places: dict[str, Place]) -> list[_Row]:
    trusted = {(one.host, one.port): key for key, one in TrustStore().load().items()}
    local = {str(one.state_dir): one for one in local_workers()}
    ports = {one.port: one.key for one in local.values()}
    groups = _groups()
    rows = []
    for name, place in places.items():
        target = place.target
        key, known, address = target.key, "trusted", _address(target)
        if here := local.get(target.host) if target.scheme == "unix" else None:
            key, address = here.key, f"localhost:{here.port}"
            known = "trusted" if key in trusted.values() else "local"
        elif not key:
            key = trusted.get((target.host, target.port), "")
        if not key and target.host in THIS_MACHINE:
            key, known = ports.get(target.port, ""), "local"
        listed = dict(place.options.get("labels") or {})
        known = known if key else "listed"
        its = groups.get(name, ())
        rows.append(_Row(name, address, key, known, its, listed, place))
    return rows


def _groups() -> dict[str, tuple[str, ...]]:
    inventory = importlib.import_module("mlepool.client.inventory.reading").read()
    return {name: host.groups for name, host in inventory.hosts.items()}


def _address(target: Target) -> str:
    is_usual = target.scheme in ("", "wss")
    return target.url.removeprefix("wss://") if is_usual else spelled(target)


async def _ask(rows: list[_Row], *, check: bool) -> list[_Answer]:
    gate = asyncio.Semaphore(MAX_DIALS)

    async def ask(row: _Row) -> _Answer:
        async with gate:
            return await _answer(row)

    if not check:
        return [_Answer(row) for row in rows]
    return await asyncio.gather(*map(ask, rows))


async def _answer(row: _Row) -> _Answer:
    options = {**row.place.options, "enter_connect_timeout": ANSWER_LIMIT}
    connection = AsyncConnection(row.place.target, **options)
    try:
        async with connection:
            return _Answer(row, up=True, state=connection.state)
    except ClientError as exc:
        return _Answer(row, up=False, cause=str(getattr(exc, "cause", exc)))


def _import(path: Path, output: str, *, force: bool) -> None:
    """Print what an inventory of another program comes to, or write it."""
    importing = importlib.import_module("mlepool.client.inventory.foreign.importing")
    text, notes = importing.convert(path)
    if not output:
        print(text, end="")
        return
    file = Path(output).expanduser()
    if file.exists() and not force:
        raise ConfigError(f"{file} is there; --force writes over it")
    write_private(file, text.encode())
    for note in notes:
        complain(visible(note))
    print(f"wrote {file}")
