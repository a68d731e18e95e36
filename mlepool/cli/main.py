"""The ``mlepool`` command: its subcommands, and how errors end it."""

import functools
import gc
import importlib
import logging
import signal
import sys
from collections.abc import Callable, Container
from typing import Annotated, Any

import typer

from mlepool.cli import streams
from mlepool.cli.commands import COMMANDS, Subcommand
from mlepool.cli.light import LightCommand, LightGroup
from mlepool.errors import MlepoolError
from mlepool.version import __version__

__all__ = ["COMMANDS", "command_of", "main", "make_app"]

FAILED = 1  # exit status for what mlepool itself could not do
PIPE_CLOSED = 141  # 128 + SIGPIPE, which Windows has no name for

# What a worker needs and Windows has not.
POSIX_ONLY = frozenset({"fcntl", "grp", "pwd", "resource", "termios", "tty"})


def main() -> None:
    """Run the command line; an error of ours is one line, not a traceback."""
    streams.mend()
    # What goes wrong is said by the subcommands, once; the worker sets up its own log.
    logging.getLogger("mlepool").addHandler(logging.NullHandler())
    try:
        # Only the subcommand that is wanted is loaded: the others take longer than it.
        make_app(sys.argv[1:2])()
    except (MlepoolError, OSError) as exc:
        if isinstance(exc, OSError) and exc.filename is None:
            streams.drop_stdout()  # most likely that is what can't be written
        streams.drop_unwritable()
        print(f"mlepool: {exc}", file=sys.stderr)
        sys.exit(FAILED)


def make_app(wanted: Container[str]) -> typer.Typer:
    """Make the command line.

    Args:
        wanted: The subcommands to load; the others are known by name and summary.
    """
    app = _new_app()
    app.callback()(_options)
    for name, command in COMMANDS.items():
        settings = {"allow_interspersed_args": not command.options_first}
        if name in wanted and command.actions:
            app.add_typer(_load_actions(name, command), name=name)
        elif name in wanted:
            function = _load(name, command)
            app.command(name, cls=LightCommand, context_settings=settings)(function)
        else:
            app.command(name, help=command.summary)(_not_loaded)
    return app


def command_of(name: str) -> Any:
    """Load one subcommand, as its parser: what it takes stands in ``params``."""
    whole: Any = typer.main.get_command(make_app([name]))
    return whole.commands[name]


def _new_app(summary: str | None = None) -> typer.Typer:
    return typer.Typer(
        cls=LightGroup,
        help=summary,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
        rich_markup_mode=None,  # plain text: an error is a line in a log, not a box
    )


def _load_actions(name: str, command: Subcommand) -> typer.Typer:
    app = _new_app(command.summary)
    for action, function in command.actions.items():
        loaded = _load(name, command._replace(function=function))
        app.command(action, cls=LightCommand)(loaded)
    return app


def _load(name: str, command: Subcommand) -> Callable[..., Any]:
    try:
        module = importlib.import_module(f"mlepool.cli.{command.module}")
    except ModuleNotFoundError as exc:
        if exc.name not in POSIX_ONLY:
            raise
        raise MlepoolError(
            f"'mlepool {name}' needs a POSIX system; this one can be a client only"
        ) from None
    function: Callable[..., Any] = getattr(module, command.function)

    @functools.wraps(function)
    def call(*args: Any, **keywords: Any) -> None:
        gc.freeze()  # what was loaded stays: not even the end looks at it
        gc.enable()
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # as it was set to load
            signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            try:
                function(*args, **keywords)
            finally:
                sys.stdout.flush()
        except BrokenPipeError:  # whoever read our output has enough: no error of ours
            streams.drop_stdout()
            raise typer.Exit(PIPE_CLOSED) from None

    return call


def _not_loaded() -> None:
    """Stand for a subcommand that is not wanted now."""


def _show_version(*, value: bool) -> None:
    if value:
        print(f"mlepool {__version__}")
        raise typer.Exit


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
