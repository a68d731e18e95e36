"""The ``mlepool`` command: its subcommands, and how errors end it."""

from __future__ import annotations

import io
import logging
import sys
from typing import Annotated

import typer

from mlepool.cli import demo, hosts, run, trust, worker
from mlepool.errors import MlepoolError
from mlepool.version import __version__

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,  # plain text: an error is a line in a log, not a box
)
app.command("worker")(worker.serve)
app.command("trust")(trust.trust)
app.command("hosts")(hosts.hosts)
# Options end at the first word of the command, as with ssh: the rest is the command's.
app.command("run", context_settings={"allow_interspersed_args": False})(run.run)
app.command("demo")(demo.demo)

FAILED = 1  # exit status for what mlepool itself could not do


def main() -> None:
    """Run the command line; an error of ours is one line, not a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A host may print what this terminal's encoding does not have.
            stream.reconfigure(errors="backslashreplace")
    # What goes wrong is said by the subcommands, once; the worker sets up its own log.
    logging.getLogger("mlepool").addHandler(logging.NullHandler())
    try:
        app()
    except (MlepoolError, OSError) as exc:
        print(f"mlepool: {exc}", file=sys.stderr)
        sys.exit(FAILED)


def _show_version(*, value: bool) -> None:
    if value:
        print(f"mlepool {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version."
        ),
    ] = False,
) -> None:
    """Run commands on many machines: live, exactly once, secure."""
