"""``mlepool worker``: serve this machine until told to end."""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from mlepool.cli import service
from mlepool.cli.flags import (
    Given,
    check_commands,
    options_of,
    print_settings,
    settings_of,
)
from mlepool.config import ListenAddress, WorkerConfig
from mlepool.errors import ConfigError, LinkError, WorkerError
from mlepool.settings.reading import Source
from mlepool.worker.access.identity import Identity
from mlepool.worker.daemon import Worker

__all__ = ["serve"]

logger = logging.getLogger("mlepool.worker")

EVERYWHERE = ("", "0.0.0.0", "::")  # listened on, but no address to give to others


def serve(
    listen: Annotated[
        str | None,
        typer.Option(
            help="HOST:PORT to listen on; by default :9922, which is everywhere.",
            show_default=False,
        ),
    ] = None,
    *,
    state_dir: Annotated[
        Path | None,
        typer.Option(help="Key, token, journal and sockets.", show_default=False),
    ] = None,
    config_file: Annotated[
        Path | None,
        typer.Option(
            "--config",
            help="Settings (TOML or JSON); by default config.toml or config.json in "
            "the state folder.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="What this worker calls itself.", show_default=False),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="A label; repeatable."),
    ] = None,
    commands: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODULE|FILE", help="Load custom commands from it; repeatable."
        ),
    ] = None,
    reload: Annotated[
        bool,
        typer.Option("--reload", help="Load them again whenever their files change."),
    ] = False,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Any other setting; repeatable."
        ),
    ] = None,
    check_config: Annotated[
        bool,
        typer.Option("--check-config", help="Print all settings, and serve not."),
    ] = False,
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
    # It tells of each change in a folder, and the log may be a file in there.
    logging.getLogger("watchfiles").setLevel(logging.WARNING)
    given = {
        "listen": listen,
        "name": name,
        "label": label,
        "commands": [_whole(one) for one in commands or ()],
        "set": [*(setting or ()), *(["reload=true"] if reload else [])],
    }
    try:
        source = _source(given, state_dir, config_file)
        found = source.read()
        for note in found.notes:
            logger.warning("%s", note)
        if check_config:
            print_settings(found)
            check_commands(found)
        elif not (install or uninstall or system):
            asyncio.run(_serve(found.config, source, join_url=join_url))
        elif install == uninstall:
            raise ConfigError("--system goes with one of --install and --uninstall")
        else:
            unit = service.find(found.config.state_dir, name or "", is_system=system)
            if install:
                unit = service.write(unit, options_of(given, source.named))
                done = _install(found.config, unit, join_url=join_url)
            else:
                done = service.remove(unit)
            raise typer.Exit(0 if done else 1)
    except (ConfigError, LinkError, WorkerError) as exc:
        typer.echo(f"mlepool worker: {exc}", err=True)
        raise typer.Exit(1) from None


def _whole(command: str) -> str:
    """Make a file's path whole: a unit starts elsewhere."""
    is_file = command.endswith(".py") or "/" in command
    return str(Path(command).expanduser().absolute()) if is_file else command


def _source(given: Given, state_dir: Path | None, file: Path | None) -> Source:
    settings = settings_of(given)
    if state_dir is not None:
        settings["state_dir"] = str(state_dir)
    return Source(settings, os.environ, file=file)


def _install(config: WorkerConfig, unit: service.Service, *, join_url: bool) -> bool:
    # Before its first start: what it would print then goes to the system's log, and
    # the join URL is a secret.
    identity = Identity(config.state_dir)
    if (join_url or identity.is_new) and config.listen.port:
        _print_join_url(identity, config.listen, config.listen.port)
    return service.start(unit)


async def _serve(config: WorkerConfig, source: Source, *, join_url: bool) -> None:
    loop = asyncio.get_running_loop()
    worker = Worker(config, source=source)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.drain.ended.set)
    loop.add_signal_handler(signal.SIGHUP, _hang_up(worker))
    async with worker:
        _announce(worker, join_url=join_url or worker.identity.is_new)
        gc.freeze()  # what is there by now stays: it is not looked at again and again
        await worker.drain.ended.wait()


def _hang_up(worker: Worker) -> Callable[[], None]:
    """Give what SIGHUP does: have the settings read again, or end with the terminal."""
    stays = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN or not _has_terminal()

    def act() -> None:
        if stays or _has_terminal():
            worker.reread()
        else:
            worker.drain.ended.set()

    return act


def _has_terminal() -> bool:
    """Tell if this process is at a terminal; one that was closed is gone."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


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
