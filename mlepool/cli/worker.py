"""``mlepool worker``: serve this machine until told to end."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import sys
from pathlib import Path
from typing import Annotated

import typer

from mlepool.cli import service
from mlepool.config import (
    DEFAULT_PORT,
    ListenAddress,
    Settings,
    WorkerConfig,
    default_state_dir,
    parse_listen,
    read_settings,
)
from mlepool.errors import ConfigError, LinkError, WorkerError
from mlepool.worker.access import Identity
from mlepool.worker.daemon import Worker

__all__ = ["serve"]

CONFIG_FILE = "config.toml"  # in the state folder
EVERYWHERE = ("", "0.0.0.0", "::")  # listened on, but no address to give to others


def serve(
    listen: Annotated[
        str, typer.Option(help="HOST:PORT to listen on; without HOST, everywhere.")
    ] = f":{DEFAULT_PORT}",
    *,
    state_dir: Annotated[
        Path | None,
        typer.Option(help="Key, token, journal and sockets.", show_default=False),
    ] = None,
    config_file: Annotated[
        Path | None,
        typer.Option(
            "--config",
            help="Settings (TOML); by default config.toml in the state folder.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str, typer.Option(help="What this worker calls itself.", show_default=False)
    ] = "",
    join_url: Annotated[
        bool,
        typer.Option("--join-url", help="Print the join URL at a later start, too."),
    ] = False,
    install: Annotated[
        bool,
        typer.Option("--install", help="Have systemd start it, now and at each boot."),
    ] = False,
    uninstall: Annotated[
        bool, typer.Option("--uninstall", help="End that; jobs go on.")
    ] = False,
    system: Annotated[
        bool,
        typer.Option("--system", help="(Un)install for the system, not the account."),
    ] = False,
) -> None:
    """Serve this machine: run what trusted clients ask for.

    The first start makes a key and a token and prints the join URL: what 'mlepool
    trust' needs on other machines. Jobs go on when the worker ends.
    """
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    folder = state_dir if state_dir is not None else default_state_dir()
    try:
        settings = _settings(config_file, folder)
        config = WorkerConfig(
            state_dir=folder.expanduser().absolute(),
            listen=parse_listen(listen),
            name=name or socket.gethostname(),
            root=Path.cwd(),
            limits=settings.limits,
            retention=settings.retention,
            roots=settings.roots,
        )
        if not (install or uninstall or system):
            asyncio.run(_serve(config, join_url=join_url))
            return
        if install == uninstall:
            raise ConfigError("--system goes with one of --install and --uninstall")
        unit = service.find(config.state_dir, name, is_system=system)
        if uninstall:
            done = service.remove(unit)
        else:
            unit = service.write(
                unit, [f"--listen={listen}", *_options(name, config_file)]
            )
            done = _install(config, unit, join_url=join_url)
    except (ConfigError, LinkError, WorkerError) as exc:
        typer.echo(f"mlepool worker: {exc}", err=True)
        raise typer.Exit(1) from None
    raise typer.Exit(0 if done else 1)


def _settings(file: Path | None, folder: Path) -> Settings:
    if file is None:
        file = folder.expanduser() / CONFIG_FILE
        if not file.exists():
            return Settings()
    return read_settings(file)


def _options(name: str, config_file: Path | None) -> list[str]:
    """Give the options that a unit repeats, besides where to listen."""
    options = [f"--name={name}"] if name else []
    if config_file is not None:
        options.append(f"--config={config_file.absolute()}")
    return options


def _install(config: WorkerConfig, unit: service.Service, *, join_url: bool) -> bool:
    # Before its first start: what it would print then goes to the system's log, and
    # the join URL is a secret.
    identity = Identity(config.state_dir)
    if (join_url or identity.is_new) and config.listen.port:
        _print_join_url(identity, config.listen, config.listen.port)
    return service.start(unit)


async def _serve(config: WorkerConfig, *, join_url: bool) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    async with Worker(config) as worker:
        _announce(worker, join_url=join_url or worker.identity.is_new)
        gc.freeze()  # what is there by now stays: it is not looked at again and again
        await ended.wait()


def _announce(worker: Worker, *, join_url: bool) -> None:
    print(f"listening on {worker.address}, state in {worker.config.state_dir}")
    if join_url:
        _print_join_url(worker.identity, worker.config.listen, worker.port)
    sys.stdout.flush()


def _print_join_url(identity: Identity, listen: ListenAddress, port: int) -> None:
    host = socket.gethostname() if listen.host in EVERYWHERE else listen.host
    url = identity.join_url(host, port)
    scheme = "" if listen.tls else "&scheme=ws"
    print(f"join URL (a secret; for 'mlepool trust' elsewhere):\n  {url}{scheme}")
