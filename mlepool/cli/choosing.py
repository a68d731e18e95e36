"""Which hosts a subcommand is about: names, ranges, groups, labels."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Collection, Iterator
from typing import Annotated, Any, NamedTuple

import typer

from mlepool.cli.places import Book, Place, known_places, listed, read_book, spelled
from mlepool.client.links.trust import Target
from mlepool.errors import ConfigError

__all__ = ["Choice", "Hosts", "Labels"]

# What they are read with is loaded where it is needed: a plain name needs none of it.
_RANGES = "mlepool.client.inventory.ranges"
_SELECTORS = "mlepool.client.inventory.selectors"

VARIABLE = "MLEPOOL_HOSTS"  # hosts where no option names any

# Signs of more than a name. An address in brackets, [::1], is one, too.
_SET = re.compile(r"[\[\]!&^*?]|(?:^|,)\s*@")
_URL = re.compile(r"://|\bunix:")  # its signs are its own


def _see_selector(context: typer.Context, selector: str) -> str:
    """See that a selector says something, if one is given: else it would mean all.

    Raises:
        BadParameter: If it is empty: most often a variable that was not set.
    """
    source = context.get_parameter_source("selector")
    if not selector.strip() and getattr(source, "name", "") == "COMMANDLINE":
        raise typer.BadParameter("no label is named")
    return selector


Hosts = Annotated[
    list[str] | None,
    typer.Option(
        *("-H", "-w", "--host", "--hosts"),
        envvar=VARIABLE,
        metavar="HOSTS",
        help="E.g. gpu1,lab or 'gpu[1-8],!gpu3' or @group or 'gpu*'; repeatable.",
        show_default=False,
        show_envvar=False,
    ),
]
Labels = Annotated[
    str,
    typer.Option(
        *("-l", "--selector"),
        metavar="LABELS",
        callback=_see_selector,
        help="Of these, or of all that are known: gpu=a100,zone in (a,b),!broken.",
        show_default=False,
    ),
]


class Choice(NamedTuple):
    """What was given to say which hosts are meant.

    Attributes:
        hosts: The texts of ``-H``.
        selector: The text of ``-l``.
    """

    hosts: tuple[str, ...] = ()
    selector: str = ""

    @classmethod
    def of(cls, hosts: Collection[str] | None, selector: str) -> Choice:
        """Make one of a subcommand's options."""
        return cls(tuple(hosts or ()), selector)

    @property
    def is_default(self) -> bool:
        """True if no option names hosts: the environment may."""
        default = tuple(os.environ.get(VARIABLE, "").split())
        return self.hosts == default and not self.selector

    @property
    def is_empty(self) -> bool:
        """True if nothing was said of hosts."""
        return not (self.hosts or self.selector)

    def places(self) -> dict[str, Place]:
        """Give those that may be meant, by name: the labels of workers are not read.

        Raises:
            ConfigError: If a text can't be read, or names what is not there.
            BadParameter: If no host is named.
        """
        if not self.hosts:
            if not (found := known_places()):
                raise ConfigError("no host is known; see 'mlepool trust'")
            return found
        book = read_book()
        found = dict(one for text in self.hosts for one in _named(text, book))
        if not found:
            raise typer.BadParameter("no host is named", param_hint="-H")
        return found

    def reader(self) -> Any:
        """Give what tells if a host's labels and facts fit; None for all.

        Raises:
            ConfigError: If the selector can't be read.
        """
        if not self.selector:
            return None
        return importlib.import_module(_SELECTORS).Selector.parse(self.selector)


def _named(text: str, book: Book) -> Iterator[tuple[str, Place]]:
    """Give the hosts that one text names."""
    if _URL.search(text) or not _SET.search(text):
        names = [name for name in text.split(",") if name]
    else:
        names = _expanded(text, book)
    for name in names:
        if name in book.hosts:
            yield name, listed(book.hosts[name])
        else:
            target = Target.parse(name)
            yield spelled(target), Place(target)


def _expanded(text: str, book: Book) -> list[str]:
    """Write a set of names out.

    Raises:
        ConfigError: If it can't be read, or names what is not there.
    """
    ranges = importlib.import_module(_RANGES)
    # Who is not known has a name nevertheless; what is like a pattern is known.
    is_pattern = bool(set("*?") & set(text)) or text.lstrip().startswith("!")
    places = list(known_places()) if is_pattern or "!" in text else None
    known = places if is_pattern else None
    try:
        names: list[str] = ranges.expand(
            text, names=known, groups=book.groups, spared=places
        )
    except KeyError as exc:
        raise ConfigError(exc.args[0]) from exc
    return names
