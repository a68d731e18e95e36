"""The ``mlepool`` command: its subcommands, and how errors end it."""

from __future__ import annotations

import sys

import typer

from mlepool.cli import demo, hosts, run, trust, worker
from mlepool.errors import MlepoolError

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Run commands on many machines: live, exactly once, secure.",
)
app.command("worker")(worker.serve)
app.command("trust")(trust.trust)
app.command("hosts")(hosts.hosts)
app.command("run")(run.run)
app.command("demo")(demo.demo)

FAILED = 1  # exit status for what mlepool itself could not do


def main() -> None:
    """Run the command line; an error of ours is one line, not a traceback."""
    try:
        app()
    except MlepoolError as exc:
        print(f"mlepool: {exc}", file=sys.stderr)
        sys.exit(FAILED)
