"""``mlepool run``: one command on one host or many, live."""

import asyncio
import importlib
import math
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from mlepool.cli.choosing import Choice, Hosts, Labels
from mlepool.cli.exits import INTERRUPTED
from mlepool.cli.running import Jobs, Order
from mlepool.cli.streams import drop_stdout

__all__ = ["run"]


def run(
    command: Annotated[
        list[str],
        typer.Argument(
            help="The command. One argument goes to the shell; several are a program "
            "and its arguments. Put -- before a command that begins with a dash."
        ),
    ],
    hosts: Hosts = None,
    *,
    selector: Labels = "",
    cwd: Annotated[
        str | None, typer.Option(help="Where it runs.", show_default=False)
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(help="Seconds until it is stopped.", show_default=False),
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Start it, print its job id and leave.")
    ] = False,
    stdin: Annotated[
        bool, typer.Option("-i", "--stdin", help="Feed our stdin to it, on each host.")
    ] = False,
    tty: Annotated[
        bool, typer.Option("-t", "--tty", help="Give it a terminal, connected to ours.")
    ] = False,
    sync: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Sync this folder first, to --cwd or a folder of its name, and run "
            "in it.",
            show_default=False,
        ),
    ] = None,
    collect: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="Bring back files that it leaves; repeatable. They come to --sync's "
            "folder, or here; of several hosts each to a folder of its name.",
            show_default=False,
        ),
    ] = None,
    priority: Annotated[
        int | None,
        typer.Option(
            help="Where jobs wait in line, higher ones go first.", show_default=False
        ),
    ] = None,
    queue: Annotated[
        bool,
        typer.Option("--queue/--no-queue", help="Wait in line, or fail if it has to."),
    ] = True,
    gpus: Annotated[
        int | None,
        typer.Option(help="How many GPUs it is to have.", show_default=False),
    ] = None,
    max_parallel: Annotated[
        int | None,
        typer.Option(
            *("-p", "--max-parallel"),
            help="How many hosts at once.",
            show_default=False,
        ),
    ] = None,
    batch: Annotated[
        str,
        typer.Option(
            metavar="N[,N...]",
            help="Go in waves of so many hosts, e.g. 1,5,20%.",
            show_default=False,
        ),
    ] = "",
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="Begin no more once a host has failed.")
    ] = False,
    max_failures: Annotated[
        str,
        typer.Option(
            metavar="N",
            help="Begin no more once more hosts than this have failed; 20% of all.",
            show_default=False,
        ),
    ] = "",
    retries: Annotated[
        int, typer.Option(help="Try a host that fails so often again.")
    ] = 0,
    gather: Annotated[
        bool,
        typer.Option("-b", "--gather", help="Identical output together, at the end."),
    ] = False,
    diff: Annotated[
        bool, typer.Option("--diff", help="As -b, and what differs from the most.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="An object for each event, one a line.")
    ] = False,
) -> None:
    """Run a command on one host or many, live.

    Where there are several hosts, each line begins with its host's name. What the
    command writes to stderr goes to stderr. Its stdin is empty without -i and -t.

    Exits with the worst exit status of all hosts: 128+n for signal n, 255 for a host
    that can't be reached. Ctrl-C leaves the jobs running and says how to come back; a
    second one stops them.
    """
    choice = Choice.of(hosts, selector)
    if choice.is_empty:
        raise typer.BadParameter("name hosts, or labels with -l", param_hint="-H")
    if timeout is not None and not 0 <= timeout < math.inf:
        raise typer.BadParameter("give seconds", param_hint="--timeout")
    # Bytes, since an argument may be a file's name that is no text.
    what = command[0] if len(command) == 1 else [os.fsencode(one) for one in command]
    keywords: dict[str, Any] = {"cwd": cwd, "timeout": timeout, "detach": detach}
    keywords |= {"collect": collect or None, "priority": priority, "gpus": gpus}
    keywords |= {"queue": None if queue else False}
    order = Order(
        choice,
        what,
        {name: value for name, value in keywords.items() if value is not None},
        sync=None if sync is None else Path(sync).absolute(),
        leaves=detach,
        feeds=stdin,
        limits=_limits(
            max_parallel=max_parallel,
            batch=[_amount(one) for one in batch.split(",")] if batch else None,
            fail_fast=fail_fast or None,
            max_failures=_amount(max_failures) if max_failures else None,
            retries=retries or None,
        ),
        view=_view(gather=gather, diff=diff, as_json=as_json),
    )
    raise typer.Exit(_run_at_terminal(order) if tty else _run(order))


def _limits(**asked: Any) -> Any:
    """Read what was asked for of hosts at once; None if it was nothing."""
    given = {name: value for name, value in asked.items() if value is not None}
    if not given:
        return None
    # Not at the top: one host needs no waves.
    limits = importlib.import_module("mlepool.client.groups.limits").Limits
    try:
        return limits.parse(**given)
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from exc


def _amount(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def _view(*, gather: bool, diff: bool, as_json: bool) -> str:
    if as_json and (gather or diff):
        raise typer.BadParameter("goes with neither -b nor --diff", param_hint="--json")
    if as_json:
        return "json"
    return "diff" if diff else "gather" if gather else "live"


def _run(order: Order) -> int:
    if order.limits is not None and order.feeds:
        text = "it goes to all hosts at once, and not with waves or --retries"
        raise typer.BadParameter(text, param_hint="--stdin")
    jobs = Jobs(order)
    try:
        return asyncio.run(jobs.run())
    except BrokenPipeError:  # the jobs were stopped
        raise
    except OSError:  # a full disk
        drop_stdout()  # what it did not take would be in the way again
        jobs.say_what_goes_on()
        raise
    except (KeyboardInterrupt, SystemExit) as exc:  # nobody reads; told to end
        drop_stdout()
        jobs.say_what_goes_on()
        return INTERRUPTED if isinstance(exc, KeyboardInterrupt) else int(exc.code or 0)


def _run_at_terminal(order: Order) -> int:
    keywords = dict(order.keywords)
    places = {} if order.choice.selector else order.choice.places()
    has_files = order.sync is not None or "collect" in keywords
    is_plain = order.limits is None and order.view == "live"
    if len(places) != 1 or keywords.pop("detach") or has_files or not is_plain:
        text = "it goes with one host, and not with --detach, --sync, --collect, waves"
        raise typer.BadParameter(text, param_hint="--tty")
    # Not at the top: a Windows client has no termios.
    terminal = importlib.import_module("mlepool.cli.terminal")
    if not terminal.are_terminals():
        text = "stdin and stdout must be a terminal; -i feeds what is none"
        raise typer.BadParameter(text, param_hint="--tty")
    [(name, place)] = places.items()
    status: int = terminal.run_at_terminal(
        name, place, command=order.command, keywords=keywords
    )
    return status
