"""``mlepool shell``: a Python prompt that knows the hosts."""

import contextlib
import importlib
import importlib.util
from typing import Annotated

import typer

from mlepool.cli.choosing import Choice, Hosts, Labels
from mlepool.client.sync import ClientPool
from mlepool.repl.console import Console
from mlepool.repl.hosts import fill, keep
from mlepool.repl.prompt import banner, end, names_for, open_pool

__all__ = ["shell"]

CONNECT_LIMIT = 5.0  # seconds for the hosts of which labels are asked


def shell(
    *,
    hosts: Hosts = None,
    selector: Labels = "",
    plain: Annotated[
        bool, typer.Option("--plain", help="Python's own prompt, not IPython.")
    ] = False,
) -> None:
    """Open a Python prompt with a pool of all known hosts, each by its name.

    It is IPython where that is installed (pip install 'mlepool[shell]'). Hosts are
    connected when they are first used. Jobs go on when it ends.
    """
    pool = open_pool()
    fill(pool)
    _choose(pool, Choice.of(hosts, selector))
    names = names_for(pool)
    try:
        if plain or importlib.util.find_spec("IPython") is None:
            Console(names).start(banner(names))
        else:
            interactive = importlib.import_module("mlepool.repl.interactive")
            interactive.start(names, banner(names))
    finally:
        end(pool)


def _choose(pool: ClientPool, choice: Choice) -> None:
    """Keep the hosts that were asked for, and add those that were not known."""
    if choice.hosts:
        places = choice.places()
        for name, (target, _) in places.items():
            if name not in pool:
                pool.add(target.url, name=name, token=target.token or None)
        keep(pool, list(places))
    if choice.selector:
        # Who can't be reached counts with its labels in the inventory.
        with contextlib.suppress(TimeoutError, ExceptionGroup):
            pool.connect(timeout=CONNECT_LIMIT)
        keep(pool, pool.select(choice.selector).names)
